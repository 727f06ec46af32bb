import { readFileSync } from 'node:fs'
import pino from 'pino'
import { fixedFiles } from '../../src/tftp/files.ts'
import { openTftpServer } from '../../src/tftp/server.ts'

/** Our TFTP server by itself, with its defaults and its log, serving one file at 127.0.0.1. */
const [file = '', port = ''] = process.argv.slice(2)
const server = await openTftpServer({
  listen: { host: '127.0.0.1', port: Number(port) },
  files: fixedFiles([{ name: 'file', bytes: readFileSync(file) }]),
  limits: {
    maxBlockSize: 65_464,
    maxWindowSize: 64,
    maxTransfers: 10_000,
    maxTransfersPerClient: 256,
    giveUpSeconds: 30,
  },
  now: () => performance.now(),
  log: pino({}, pino.destination({ dest: 2, sync: true })),
})
process.stdout.write('ready\n')
process.once('SIGTERM', () => void server.close(0))
