import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import pino from 'pino'
import t, { type Test } from 'tap'
import { tftpOutcomes, tftpRefusals } from '../../src/domain/meters.ts'
import { openProcessMetrics, type ProcessMetrics } from '../../src/metrics/counts.ts'
import { fixedFiles } from '../../src/tftp/files.ts'
import { openTftpServer, type TftpServer } from '../../src/tftp/server.ts'
import { fetchTftp } from '../helpers/tftp-client.ts'

const limits = {
  ...{ maxBlockSize: 1468, maxWindowSize: 8, maxTransfers: 100, maxTransfersPerClient: 2, giveUpSeconds: 30 },
}

async function open(t: Test): Promise<{ server: TftpServer; own: ProcessMetrics }> {
  const own = openProcessMetrics()
  t.teardown(() => own.close())
  const server = await openTftpServer({
    listen: { host: '127.0.0.1', port: 0 },
    files: fixedFiles([{ name: 'ipxe.efi', bytes: Buffer.alloc(10_000) }]),
    limits,
    now: () => performance.now(),
    log: pino({ level: 'silent' }),
    meter: own.tftp,
  })
  own.keep({ tftpTransfers: server.open })
  t.teardown(() => server.close(0))
  return { server, own }
}

/** Series of TFTP that are not 0: `name{label}`. */
async function countsOf(own: ProcessMetrics): Promise<Record<string, number>> {
  const { metrics } = await own.snapshot()
  const found = metrics
    .filter(({ name }) => name.startsWith('pawl_tftp_'))
    .flatMap(({ name, values }) =>
      values.map(({ labels, value }): [string, number] => {
        const label = Object.values(labels).join()
        return [label === '' ? name : `${name}{${label}}`, value]
      }),
    )
  return Object.fromEntries(found.filter(([, value]) => value !== 0))
}

t.test('transfers are counted as they begin and as they end, with what arrived', async (t) => {
  const { server, own } = await open(t)
  t.same(await countsOf(own), {})
  const { port } = server
  await fetchTftp({ port, name: 'ipxe.efi' })
  await fetchTftp({ port, name: 'ipxe.efi', options: [['blksize', '1400']] })
  await t.rejects(fetchTftp({ port, name: 'absent' }))
  const silent = createSocket('udp4')
  t.teardown(() => silent.close())
  silent.send(Buffer.from('\0\x01ipxe.efi\0octet\0', 'latin1'), port, '127.0.0.1')
  await once(silent, 'message')
  t.same(await countsOf(own), {
    pawl_tftp_transfers: 1,
    pawl_tftp_transfers_begun_total: 3,
    'pawl_tftp_transfers_ended_total{done}': 2,
    'pawl_tftp_refusals_total{not-found}': 1,
    pawl_tftp_bytes_total: 20_000,
  })
  await server.close(0)
  t.match(await countsOf(own), {
    'pawl_tftp_transfers_ended_total{stopped}': 1,
    pawl_tftp_transfers: undefined,
  })
})

t.test('what strangers send is counted under names of ours only', async (t) => {
  const { server, own } = await open(t)
  const socket = createSocket('udp4')
  t.teardown(() => socket.close())
  const evil = 'evil"}{pawl'
  const requests = [
    `\0\x01${evil}\0octet\0`,
    `\0\x01ipxe.efi\0${evil}\0`,
    `\0\x02${evil}\0octet\0`,
    `\0\x01ipxe.efi\0octet\0blksize\0${evil}\0`,
    `\0\x01ipxe.efi\0octet\0blksize\x004\0`,
    `\0\x01${evil}`,
  ]
  for (const request of requests) {
    socket.send(Buffer.from(request, 'latin1'), server.port, '127.0.0.1')
    await once(socket, 'message')
  }
  const { metrics } = await own.snapshot()
  const tftp = metrics.filter(({ name }) => name.startsWith('pawl_tftp_'))
  const labels = new Set(tftp.flatMap(({ values }) => values.flatMap((one) => Object.values(one.labels))))
  t.same([...labels].sort(), [...new Set<string>([...tftpOutcomes, ...tftpRefusals])].sort())
  const { pawl_tftp_transfers_begun_total: _, ...counted } = await countsOf(own)
  t.same(
    Object.entries(counted).filter(([name]) => name.startsWith('pawl_tftp_refusals')),
    [
      ['pawl_tftp_refusals_total{malformed}', 2],
      ['pawl_tftp_refusals_total{read-only}', 1],
      ['pawl_tftp_refusals_total{not-found}', 1],
      ['pawl_tftp_refusals_total{options}', 2],
    ],
  )
  t.notMatch(JSON.stringify(metrics), /evil/)
  own.cache('memory', 'hit')
  own.cache('disk', 'miss')
  const { metrics: after } = await own.snapshot()
  const asked = after.find(({ name }) => name === 'pawl_artifact_cache_requests_total')?.values ?? []
  t.equal(asked.length, 6, 'two caches, three answers')
  t.same(
    asked.filter(({ value }) => value > 0).map(({ labels }) => labels),
    [
      { cache: 'memory', answer: 'hit' },
      { cache: 'disk', answer: 'miss' },
    ],
  )
})
