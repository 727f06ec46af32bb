/**
 * A server for the crash test: the real one, whose process ends without a warning at a given point of its SQL. The parent
 * arms it by a message, so that what happens at start does not count. Run with: DATA_DIR PUBLIC_PORT.
 */
import { join } from 'node:path'
import { loadConfig } from '../../src/config.ts'
import { createLog } from '../../src/log.ts'
import { startServer } from '../../src/server.ts'
import { watchStatements } from './statements.ts'

/** Where to die: before or after the nth commit, or before the nth statement of any kind. */
export interface CrashPoint {
  readonly at: 'before commit' | 'after commit' | 'before statement'
  readonly n: number
}

let point: CrashPoint | undefined
let commits = 0
let statements = 0

function die(): never {
  process.kill(process.pid, 'SIGKILL')
  for (;;) {} // the signal arrives before anything else can happen
}

watchStatements(
  (text) => {
    if (point === undefined) return
    statements += 1
    if (point.at === 'before statement' && statements === point.n) die()
    if (text !== 'commit') return
    commits += 1
    if (point.at === 'before commit' && commits === point.n) die()
  },
  (text) => {
    if (text === 'commit' && point?.at === 'after commit' && commits === point.n) die()
  },
)

process.on('message', (message: CrashPoint) => {
  point = message
  process.send?.('armed')
})

const [dataDir = '', port = ''] = process.argv.slice(2)
const flags = {
  data: dataDir,
  bootListen: `127.0.0.1:${port}`,
  operatorListen: '127.0.0.1:0',
  publicUrl: `https://127.0.0.1:${port}`,
  logLevel: 'silent',
}
const config = loadConfig({ flags, env: {}, fileName: 'none' })
await startServer({
  config,
  clock: () => new Date(),
  log: createLog(config.logLevel),
  hostName: 'localhost',
  processId: process.pid,
  templatesFolder: join(import.meta.dirname, '../../ipxe-templates'),
})
process.send?.('ready')
