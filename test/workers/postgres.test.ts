import t from 'tap'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'
import { storyOfWorkers } from './story.ts'

const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()

await t.test(
  'workers that write to PostgreSQL themselves',
  absent === undefined ? {} : { skip: absent },
  async (t) => storyOfWorkers(t, await (await startPostgres()).createDatabase()),
)
