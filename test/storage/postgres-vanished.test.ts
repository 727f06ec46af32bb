import { join } from 'node:path'
import { postgresAbsent } from '../helpers/postgres.ts'
import { ownNetworkAbsent, runInOwnNetwork } from '../hostile/own-network.ts'

const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : (postgresAbsent() ?? ownNetworkAbsent())
if (absent === undefined) await runInOwnNetwork(join(import.meta.dirname, 'postgres-vanished.ts'))
else process.stdout.write(`1..0 # SKIP ${absent}\n`)
