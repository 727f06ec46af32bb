import t from 'tap'
import { storyOfWorkers } from './story.ts'

await t.test('workers, whose keeper writes to SQLite', (t) => storyOfWorkers(t))
