import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import type { Announced, Finding, Subject } from '../../src/doctor/finding.ts'
import { tftp } from '../../src/doctor/tftp.ts'
import { fixedFiles } from '../../src/tftp/files.ts'
import { openTftpServer } from '../../src/tftp/server.ts'

/** What the doctor says of TFTP on a data folder without iPXE. */
async function look(t: Test, listen: string, announced?: Partial<Announced>): Promise<Finding[]> {
  const dataDir = mkdtempSync(join(tmpdir(), 'pawl-doctor-tftp-'))
  t.teardown(() => rmSync(dataDir, { recursive: true, force: true }))
  const config = loadConfig({ flags: { data: dataDir, tftpListen: listen }, env: {}, fileName: 'none' })
  const subject: Partial<Subject> = {
    dataDir,
    config,
    isAlive: () => true,
    ...(announced === undefined
      ? {}
      : { announced: { boot: 'https://b', operator: 'https://o', pid: 1, ...announced } }),
  }
  return tftp(subject as Subject) // it looks at nothing else
}

const empty = {
  check: 'files by TFTP',
  level: 'warn',
  found: 'there is no iPXE to serve',
  advice: 'pawl ipxe fetch brings it',
}

async function taken(t: Test): Promise<number> {
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  return (socket.address() as AddressInfo).port
}

t.test('a port that cannot be had fails, and says who may have it', async (t) => {
  const port = await taken(t)
  t.match(await look(t, `127.0.0.1:${port}`), [
    {
      check: 'TFTP',
      level: 'fail',
      found: `127.0.0.1:${port} cannot be had (EADDRINUSE)`,
      advice: 'stop the TFTP server that has it: dnsmasq, tftpd-hpa, atftpd?',
    },
    empty,
  ])
  t.match(await look(t, '192.0.2.1:6969'), [
    { level: 'fail', found: '192.0.2.1:6969 cannot be had (EADDRNOTAVAIL)' },
    empty,
  ])
})

t.test('a server that should serve TFTP and does not is told', async (t) => {
  const port = await taken(t) // which never answers
  t.match(await look(t, `127.0.0.1:${port}`, { tftp: port }), [
    { level: 'fail', found: `nothing answers at 127.0.0.1:${port}` },
    empty,
  ])
  t.match(await look(t, '127.0.0.1:6969', {}), [
    {
      level: 'warn',
      found: 'the server runs without it, and 127.0.0.1:6969 is set',
      advice: 'restart the server',
    },
    empty,
  ])
})

t.test('what is served is asked for', async (t) => {
  for (const [names, level] of [
    [['autoexec.ipxe'], 'ok'],
    [['other'], 'fail'],
  ] as const) {
    const server = await openTftpServer({
      listen: { host: '::', port: 0 },
      files: fixedFiles(names.map((name) => ({ name, bytes: Buffer.from('#!ipxe\n') }))),
      limits: {
        maxBlockSize: 65_464,
        maxWindowSize: 64,
        maxTransfers: 10,
        maxTransfersPerClient: 10,
        giveUpSeconds: 30,
      },
      now: () => performance.now(),
      log: pino({ level: 'silent' }),
    })
    t.teardown(() => server.close(0))
    t.match(await look(t, '[::]:69', { tftp: server.port }), [{ check: 'TFTP', level }, empty])
  }
})

t.test('where TFTP is off nothing is said, and a free port is good', async (t) => {
  t.same(await look(t, 'off'), [])
  t.match(await look(t, '127.0.0.1:0'), [{ check: 'TFTP', level: 'ok' }, empty])
})
