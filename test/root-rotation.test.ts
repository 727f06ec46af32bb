import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import t, { type Test } from 'tap'
import { loadConfig } from '../src/config.ts'
import { examine } from '../src/doctor/examine.ts'
import type { Finding } from '../src/doctor/finding.ts'
import { initPawl } from '../src/init.ts'
import { cutOver, makeNext } from '../src/pki/rotation.ts'
import { generateKey, makeCertificate } from '../src/pki/x509.ts'
import { cutOverRoot, rotateRoot } from '../src/root-rotation.ts'
import { type RunningServer, startServer } from '../src/server.ts'
import { openStorage } from '../src/storage/database.ts'
import { listEvents } from '../src/storage/events.ts'
import { noteNodeRoot } from '../src/storage/node-roots.ts'
import { freePort } from './helpers/ports.ts'

/** A whole server whose root is rotated, and one with certificates of the operator's own. */
const templatesFolder = join(import.meta.dirname, '../ipxe-templates')
const now = new Date() // TLS looks at the real clock

type Flags = Readonly<Record<string, string>>

async function install(t: Test): Promise<{ dataDir: string; folder: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-roots-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  await initPawl({ dataDir, database: join(dataDir, 'pawl.db'), publicUrl: undefined, names: [], now })
  return { dataDir, folder }
}

const configOf = (dataDir: string, flags: Flags) =>
  loadConfig({
    flags: { data: dataDir, bootListen: '127.0.0.1:0', operatorListen: '127.0.0.1:0', ...flags },
    env: {},
    fileName: 'none',
  })

const start = (dataDir: string, flags: Flags = {}): Promise<RunningServer> =>
  startServer({
    config: configOf(dataDir, flags),
    clock: () => new Date(),
    log: pino({ level: 'silent' }),
    hostName: 'localhost',
    processId: process.pid,
    templatesFolder,
  })

async function doctor(dataDir: string, flags: Flags = {}): Promise<Record<string, Finding>> {
  const { findings } = await examine({
    dataDir,
    configOf: () => configOf(dataDir, flags),
    now: new Date(),
    version: '0.2.0',
    hostName: 'localhost',
    nodeVersion: '24.0.0',
    templatesFolder,
    full: false,
    isAlive: (id) => id === process.pid,
  })
  return Object.fromEntries(findings.map((finding) => [finding.check, finding]))
}

/** The site script that a listener serves to whoever trusts this root; the error's code where it is not trusted. */
function scriptAt(url: string, ca: string): Promise<string> {
  return new Promise((resolve) => {
    get(`${url}/v1/boot/autoexec.ipxe`, { ca, agent: false }, (response) => {
      let text = ''
      response.on('data', (part: Buffer) => {
        text += part.toString()
      })
      response.on('end', () => resolve(text))
    }).on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })
}

const serverLine = (url: string): RegExp => new RegExp(`server ${url}\\n`)

t.test('both roots are served, each by its own listener, until one is cut over', async (t) => {
  const { dataDir } = await install(t)
  const config = configOf(dataDir, {})
  const [oldPort, newPort] = [await freePort(), await freePort()]
  const [oldUrl, newUrl] = [`https://127.0.0.1:${oldPort}`, `https://127.0.0.1:${newPort}`]
  const asOld = { bootListen: `127.0.0.1:${oldPort}`, publicUrl: oldUrl }
  const asBoth = {
    bootListen: `127.0.0.1:${newPort}`,
    publicUrl: newUrl,
    oldBootListen: asOld.bootListen,
    oldPublicUrl: oldUrl,
  }
  const oldRoot = readFileSync(join(dataDir, 'ca.crt'), 'utf8')

  const leftover = await start(dataDir, asBoth)
  t.equal(leftover.ready.oldBoot, undefined, 'without a next root there is one listener')
  t.match(await scriptAt(newUrl, oldRoot), serverLine(newUrl))
  t.match((await doctor(dataDir, asBoth))['root rotation'], {
    level: 'warn',
    found: /there is no other root/,
  })
  await leftover.close()

  const made = await rotateRoot({ config, now })
  t.equal(made.created.length, 4)
  t.same((await rotateRoot({ config, now })).created, [], 'twice is once')
  const newRoot = readFileSync(made.ca, 'utf8')
  t.match((await doctor(dataDir, asOld))['root rotation'], {
    level: 'warn',
    found: /made, and not served yet/,
  })
  const still = await start(dataDir, asOld)
  t.match(await scriptAt(oldUrl, oldRoot), serverLine(oldUrl), 'nothing changes by it')
  await still.close()

  const server = await start(dataDir, asBoth)
  t.equal(server.ready.oldBoot, oldUrl)
  t.match(await scriptAt(oldUrl, oldRoot), serverLine(oldUrl))
  t.match(await scriptAt(newUrl, newRoot), serverLine(newUrl))
  t.equal(await scriptAt(oldUrl, newRoot), 'SELF_SIGNED_CERT_IN_CHAIN')
  t.equal(await scriptAt(newUrl, oldRoot), 'SELF_SIGNED_CERT_IN_CHAIN')
  t.equal(await scriptAt(server.ready.operator, oldRoot).then((text) => /problem|not-found/.test(text)), true)
  const seen = await doctor(dataDir, asBoth)
  t.match(seen, {
    'boot certificate': { level: 'ok' },
    'boot certificate (ECDSA)': { level: 'ok' },
    'old boot certificate': { level: 'ok' },
    'operator certificate': { level: 'ok' },
    'boot listener': { level: 'ok', found: /with leaf and root/ },
    'operator listener': { level: 'ok' },
    'root rotation': { level: 'warn', found: /both roots are served; 0 nodes/ },
    'next root key': { level: 'warn' },
  })

  await t.test('cut-over is refused while a node needs the old root', async (t) => {
    const storage = await openStorage(join(dataDir, 'pawl.db'))
    t.teardown(() => storage.close())
    const ask = (more: object = {}) =>
      cutOverRoot({ config, now: new Date(), days: 30, force: false, apply: true, ...more })
    await t.rejects(ask(), { code: 'conflict', message: 'no node has booted by the new root yet' })
    const at = now.toISOString()
    const columns = {
      profile: null,
      state: 'registered',
      failure_cause: null,
      uuid: null,
      serial: null,
    } as const
    const mark = { reinstall: 'none', reinstall_attempts: 0, reinstall_session: null, armed: 0 } as const
    const rest = {
      secret_id: null,
      secret_hash: null,
      last_facts: null,
      session: null,
      revision: 1,
      labels: '{}',
    }
    const add = (name: string, root: string, daysAgo: number): Promise<void> =>
      storage.transaction(async (tx) => {
        const row = { id: name, name, ...columns, ...mark, ...rest, created_at: at, updated_at: at }
        await tx.insertInto('nodes').values(row).execute()
        const when = new Date(now.getTime() - daysAgo * 86_400_000)
        await noteNodeRoot(tx, { node: name, root, source: '192.0.2.1' }, when)
      })
    await add('mlab1', made.from, 29)
    await add('mlab2', made.from, 100)
    await add('mlab3', made.to, 1)
    await t.rejects(ask(), {
      code: 'conflict',
      message: '1 node booted by the old root in the last 30 days: mlab1',
    })
    const plan = await ask({ days: 20, apply: false })
    t.match(plan, {
      applied: false,
      users: [],
      stranded: [{ node: 'mlab1' }, { node: 'mlab2' }],
      moved: 1,
      retired: null,
    })
    t.equal(readFileSync(join(dataDir, 'ca.crt'), 'utf8'), oldRoot, 'a plan changes nothing')
    t.match(await ask({ days: 20 }), { applied: true, from: made.from, to: made.to })
    const kinds = (await listEvents(storage.db, { limit: 100 })).map(({ kind, detail }) => [
      kind,
      JSON.parse(detail),
    ])
    t.match(
      kinds.filter(([kind]) => /^root-/.test(String(kind))),
      [
        ['root-rotated', { before: made.from, after: made.to }],
        ['root-cut-over', { before: made.from, after: made.to, days: 20, forced: false }],
      ],
    )
  })

  await server.maintain()
  t.equal(readFileSync(join(dataDir, 'ca.crt'), 'utf8'), newRoot)
  t.match(await scriptAt(newUrl, newRoot), serverLine(newUrl), 'the running server goes on')
  t.equal(await scriptAt(oldUrl, oldRoot), 'ECONNREFUSED', 'its old listener is closed')
  t.notMatch(await scriptAt(server.ready.operator, newRoot), /^[A-Z_]+$/, 'operators come by the new root')
  await server.close()

  const after = await start(dataDir, asBoth)
  t.equal(after.ready.oldBoot, undefined, 'settings that stay behind open nothing')
  t.match(await scriptAt(newUrl, newRoot), serverLine(newUrl))
  t.match(await doctor(dataDir, asBoth), {
    'boot listener': { level: 'ok' },
    'retired root': { level: 'warn', found: /has the keys of [0-9a-f]{16}/ },
    'root rotation': { level: 'warn', advice: /take oldBootListen/ },
  })
  await after.close()
})

t.test('a rotation that was killed behind its last file is on record all the same, once', async (t) => {
  const { dataDir } = await install(t)
  const config = configOf(dataDir, {})
  t.equal((await makeNext(dataDir, now)).length, 4)
  const made = await rotateRoot({ config, now })
  t.same(made.created, [])
  await rotateRoot({ config, now })
  const storage = await openStorage(config.database)
  const told = await listEvents(storage.db, { kind: 'root-rotated', limit: 10 })
  await storage.close()
  t.same(
    told.map(({ detail }) => JSON.parse(detail)),
    [{ before: made.from, after: made.to }],
  )
})

t.test('a cut-over that was killed is finished by the next start', async (t) => {
  const { dataDir } = await install(t)
  await rotateRoot({ config: configOf(dataDir, {}), now })
  const newRoot = readFileSync(join(dataDir, 'pki/next/ca.crt'), 'utf8')
  t.throws(
    () =>
      cutOver(dataDir, (step) => {
        if (step === 'replace issuing.key') throw new Error('killed')
      }),
    /killed/,
  )
  t.match(await doctor(dataDir), {
    certificates: { level: 'fail', found: /was cut off/, advice: /start the server/ },
  })
  const server = await start(dataDir)
  t.match(await scriptAt(server.ready.boot, newRoot), /#!ipxe/)
  await server.close()
})

t.test("certificates of the operator's own, from the start to a renewal", async (t) => {
  const { dataDir, folder } = await install(t)
  const keys = await Promise.all([2048, 2048].map((bits) => generateKey(bits)))
  const [rootKey = '', leafKey = ''] = keys
  const root = await makeCertificate({ kind: 'root', commonName: 'Corporate', names: [], key: rootKey, now })
  const issuer = { certificate: root, key: rootKey }
  const leafFor = (names: string[], key = leafKey): Promise<string> =>
    makeCertificate({ kind: 'boot-server', commonName: 'boot', names, key, now, issuer })
  const put = (name: string, text: string): string => {
    const file = join(folder, name)
    writeFileSync(`${file}.new`, text, { mode: 0o600 })
    renameSync(`${file}.new`, file)
    return file
  }
  const port = await freePort()
  const url = `https://127.0.0.1:${port}`
  const flags = {
    bootListen: `127.0.0.1:${port}`,
    publicUrl: url,
    bootCertFile: put('boot.crt', await leafFor(['other.example.test'])),
    bootKeyFile: put('boot.key', leafKey),
    bootCaFile: put('roots.crt', root),
  }
  const refused = { code: 'certificate-invalid', message: /is not for 127\.0\.0\.1, which clients call/ }
  await t.rejects(start(dataDir, flags), refused, 'one with another name keeps the server from starting')
  t.match(await doctor(dataDir, flags), { 'boot certificate': { level: 'fail', found: refused.message } })
  const { publicUrl: _url, ...nameless } = flags
  await t.rejects(start(dataDir, nameless), { code: 'usage', message: /publicUrl is missing/ })

  put('boot.crt', await leafFor(['127.0.0.1']))
  const operator = {
    operatorCertFile: flags.bootCertFile,
    operatorKeyFile: flags.bootKeyFile,
    operatorCaFile: flags.bootCaFile,
  }
  const server = await start(dataDir, { ...flags, ...operator })
  t.match(await scriptAt(url, root), serverLine(url))
  t.equal(server.ready.ca, flags.bootCaFile)
  t.match(JSON.parse(readFileSync(join(dataDir, 'server.json'), 'utf8')), { operatorCa: flags.bootCaFile })
  t.match(await doctor(dataDir, { ...flags, ...operator }), {
    'boot certificate': { level: 'ok', found: /the root is sent with it, from the file of roots/ },
    'operator certificate': { level: 'ok' },
    'boot listener': { level: 'ok' },
    'operator listener': { level: 'ok' },
  })
  const shown = (): Promise<string> =>
    new Promise((resolve, reject) => {
      get(url, { ca: root, agent: false }, (response) => {
        resolve((response.socket as import('node:tls').TLSSocket).getPeerCertificate().fingerprint256)
        response.resume()
      }).on('error', reject)
    })
  const renewed = await leafFor(['127.0.0.1'])
  put('boot.crt', renewed)
  t.match(await doctor(dataDir, { ...flags, ...operator }), {
    'boot listener': { level: 'fail', found: /answers with another certificate than .*boot\.crt/ },
  })
  await server.maintain()
  t.equal(await shown(), new X509Certificate(renewed).fingerprint256, 'a renewal is served without a restart')
  await server.close()
})
