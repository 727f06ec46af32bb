import { join } from 'node:path'
import { ownNetworkAbsent, runInOwnNetwork } from './own-network.ts'

const absent = ownNetworkAbsent()
if (absent === undefined) await runInOwnNetwork(join(import.meta.dirname, 'ipv6.ts'))
else process.stdout.write(`1..0 # SKIP ${absent}\n`)
