import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import { initPawl } from '../../src/init.ts'
import { addIpxe } from '../../src/ipxe/folder.ts'
import { startServer } from '../../src/server.ts'
import { findAddressHolders } from '../../src/storage/nodes.ts'
import { openNodeScripts } from '../../src/tftp/node-scripts.ts'
import { storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { fetchTftp } from '../helpers/tftp-client.ts'
import { forEachDatabase } from '../helpers/world.ts'

const entry = {
  name: 'ipxe.efi',
  platform: 'efi',
  arch: 'x86_64',
  version: null,
  features: null,
  trust: { kind: 'unknown' },
  source: 'a test',
  addedAt: '2026-11-21T06:00:00.000Z',
} as const

async function install(t: Test): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-tftp-whole-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  await initPawl({
    dataDir,
    database: join(dataDir, 'pawl.db'),
    publicUrl: undefined,
    names: [],
    now: new Date(),
  })
  return dataDir
}

t.test(
  'the server serves its iPXE and the site script, takes up new ones, and nothing else of its folder',
  async (t) => {
    const dataDir = await install(t)
    addIpxe(dataDir, entry, Buffer.alloc(100_000, 1))
    const flags = {
      data: dataDir,
      bootListen: '127.0.0.1:0',
      operatorListen: '127.0.0.1:0',
      tftpListen: '127.0.0.1:0',
      publicUrl: 'https://boot.example.net:8443',
    }
    const server = await startServer({
      config: loadConfig({ flags, env: {}, fileName: 'none' }),
      clock: () => new Date(),
      log: pino({ level: 'silent' }),
      hostName: 'boot-server',
      processId: 1,
      templatesFolder: join(import.meta.dirname, '../../ipxe-templates'),
    })
    t.match(server.ready.tftp, /^127\.0\.0\.1:\d+$/)
    const port = Number(server.ready.tftp?.split(':')[1])
    const fetched = async (name: string): Promise<Buffer> => (await fetchTftp({ port, name })).content
    t.ok((await fetched('ipxe.efi')).equals(Buffer.alloc(100_000, 1)))
    const script = String(await fetched('autoexec.ipxe'))
    t.match(script, 'https://boot.example.net:8443/v1/boot/stage1.ipxe')
    t.notMatch(script, 'secret=')
    for (const name of [
      'index.json',
      'ipxe/ipxe.efi',
      'ca.crt',
      'pawl.db',
      'admin.token',
      '../admin.token',
      'pki/boot.pem',
    ])
      await t.rejects(fetched(name), { message: '1 file not found' }, name)
    addIpxe(dataDir, entry, Buffer.alloc(50_000, 2))
    addIpxe(dataDir, { ...entry, name: 'snponly.efi' }, Buffer.alloc(10, 3))
    await server.maintain()
    t.ok(
      (await fetched('ipxe.efi')).equals(Buffer.alloc(50_000, 2)),
      'what was added is served, without a restart',
    )
    t.ok((await fetched('snponly.efi')).equals(Buffer.alloc(10, 3)))
    await server.close()
  },
)

t.test('scripts of nodes are remembered, and a flood of requests asks the database little', async (t) => {
  let now = 0
  const asked: unknown[] = []
  const errors: unknown[] = []
  const scripts = openNodeScripts({
    nodeOf: async (of) => {
      asked.push(of)
      if ('mac' in of && of.mac === '00:00:00:00:00:ff') throw new Error('no database')
      return 'mac' in of ? 'mlab1' : undefined
    },
    scriptOf: (node) => `echo ${node}`,
    now: () => now,
    onError: (error) => errors.push(error),
  })
  t.equal(await scripts({ mac: '52:54:00:12:34:56' }), 'echo mlab1')
  t.equal(await scripts({ mac: '52:54:00:12:34:56' }), 'echo mlab1')
  t.equal(await scripts({ address: '192.0.2.1' }), undefined)
  t.equal(await scripts({ address: '192.0.2.1' }), undefined)
  t.equal(asked.length, 2, 'each once')
  now += 10_000
  await scripts({ mac: '52:54:00:12:34:56' })
  t.equal(asked.length, 3, 'and again ten seconds later')
  t.equal(
    await scripts({ mac: '00:00:00:00:00:ff' }),
    undefined,
    'without a database everyone gets the script of everyone',
  )
  t.equal(errors.length, 1)
  const flood = Array.from({ length: 50 }, (_, i) => scripts({ address: `192.0.2.${i + 10}` }))
  t.equal(asked.length, 4 + 8, 'eight at a time')
  await Promise.all(flood)
  for (let i = 0; i < 5000; i += 1) await scripts({ address: `198.51.${i >> 8}.${i & 255}` })
  t.ok(asked.length <= 210, `${asked.length} questions`)
})

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('a node is found by an address that is its own alone', async (t) => {
    const world = await openWorld()
    await storeDemoFleet(world)
    const single = (address: string): { address: string; prefixLength: number } => ({
      address,
      prefixLength: address.includes(':') ? 128 : 32,
    })
    await storeNode(world, { name: 'mlab1', addresses: [single('192.0.2.10'), single('2001:db8::1')] })
    const prefix = { address: '198.51.100.0', prefixLength: 24 }
    await storeNode(world, { name: 'mlab2', addresses: [prefix, single('192.0.2.20')] })
    await storeNode(world, { name: 'mlab3', addresses: [single('192.0.2.20')] })
    const { db } = world.context.storage
    t.same(await findAddressHolders(db, '192.0.2.10'), ['mlab1'])
    t.same(await findAddressHolders(db, '2001:db8::1'), ['mlab1'])
    t.same(await findAddressHolders(db, '198.51.100.0'), [], 'a prefix is no address')
    t.same(
      (await findAddressHolders(db, '192.0.2.20')).sort(),
      ['mlab2', 'mlab3'],
      'what two have names neither',
    )
  })
})
