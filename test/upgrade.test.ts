import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import pg from 'pg'
import t, { type Test } from 'tap'
import { parseProfile, writeProfile } from '../src/domain/profile.ts'
import { tokenFromRandom } from '../src/domain/token.ts'
import { openAsItIs } from '../src/storage/database.ts'
import { forEachPlace, type Place, sqlite, temporaryFolder, withStorage } from './backup/helpers.ts'
import { demoProfile, manifestOf, newNode } from './helpers/fleet.ts'
import { postgresAbsent } from './helpers/postgres.ts'
import { previousAbsent as absent, checkoutPrevious, root } from './helpers/release.ts'
import { bootRobot, send } from './helpers/robot.ts'

interface Site {
  readonly dataDir: string
  readonly database: string
  readonly secret: string
  readonly old: string
}

interface Ran {
  readonly exit: number
  readonly stdout: string
  readonly stderr: string
}

function pawl(
  checkout: string,
  { dataDir, database }: Pick<Site, 'dataDir' | 'database'>,
  args: readonly string[],
): Promise<Ran> {
  const env = { PATH: process.env.PATH, PAWL_DATA: dataDir, PAWL_DATABASE: database }
  return new Promise((resolve) => {
    execFile(join(checkout, 'bin/pawl'), args, { env }, (error, stdout, stderr) => {
      resolve({ exit: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

/** An installation that the release before made, with a profile, images and three nodes. */
async function install(t: Test, place: Place): Promise<Site> {
  const old = checkoutPrevious(t)
  const dataDir = join(temporaryFolder(t), 'data')
  const database = await place(dataDir)
  if (place !== sqlite) await empty(database)
  const made = await pawl(old, { dataDir, database }, ['init'])
  t.equal(made.exit, 0, made.stderr)
  const secret = tokenFromRandom(new Uint8Array(33).fill(9))
  const storage = openAsItIs(database)
  const at = new Date().toISOString()
  await storage.transaction(async (tx) => {
    for (const ref of ['small@1', 'full@1', 'full@2'])
      await tx
        .insertInto('images')
        .values(manifestOf(ref, 'a', at))
        .execute()
    const document = JSON.stringify(writeProfile(parseProfile({ ...demoProfile, acceptUnsigned: true })))
    const profile = { name: 'demo', document, revision: 1, created_at: at, updated_at: at }
    await tx.insertInto('profiles').values(profile).execute()
    for (const name of ['node1', 'node2', 'node3']) {
      await tx
        .insertInto('nodes')
        .values(newNode(name, secret, at))
        .execute()
    }
  })
  await storage.close()
  return { dataDir, database, secret: secret.text, old }
}

/** The tests' databases have the newest schema: this one is as PostgreSQL makes it. */
async function empty(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query('drop schema public cascade; create schema public')
  await client.end()
}

interface Running {
  readonly port: number
  readonly operator: number
  stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
}

async function start(t: Test, checkout: string, { dataDir, database }: Site): Promise<Running> {
  const listen = ['--boot-listen', '127.0.0.1:0', '--operator-listen', '127.0.0.1:0', '--log-level', 'error']
  const env = {
    PATH: process.env.PATH,
    PAWL_DATA: dataDir,
    PAWL_DATABASE: database,
    PAWL_SHUTDOWN_GRACE_SECONDS: '5',
  }
  // Without the script around it, so that a signal is the server's.
  const args = ['--disable-warning=ExperimentalWarning', join(checkout, 'src/main.ts'), 'server', ...listen]
  const child: ChildProcess = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = once(child, 'exit')
  let ready = ''
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    ready = line
    break
  }
  t.match(ready, /"event":"ready"/, 'the server serves')
  const portOf = (name: string): number => Number(new URL(JSON.parse(ready)[name]).port)
  return {
    port: portOf('boot'),
    operator: portOf('operator'),
    async stop(signal) {
      child.kill(signal)
      await ended
    },
  }
}

/** A node in the middle of its boot: what it holds, and how it goes on. */
class Booting {
  readonly #site: Site
  readonly #host: string
  #tokens: Record<string, string> = {}

  constructor(site: Site, host: string) {
    this.#site = site
    this.#host = host
  }

  async #ask(port: number, method: string, path: string, token?: string, body = ''): Promise<string> {
    const ca = readFileSync(join(this.#site.dataDir, 'ca.crt'), 'utf8')
    const form = body === '' ? {} : { 'content-type': 'application/x-www-form-urlencoded' }
    const headers = { ...form, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) }
    const { status, text } = await send({ port, ca }, method, `/v1/boot/${this.#host}/${path}`, headers, body)
    if (status >= 300) throw new Error(`${path}: ${status} ${text}`)
    return text
  }

  async toStage2(port: number): Promise<void> {
    const script = await this.#ask(
      port,
      'GET',
      `stage1.ipxe?secret=${this.#site.secret}&serial=ROBOT&platform=efi`,
    )
    const k = /handover\?k=([\w-]{44})/.exec(script)?.[1]
    this.#tokens = JSON.parse(await this.#ask(port, 'GET', `handover?k=${k}`)).tokens
    const answer = JSON.parse(await this.#ask(port, 'POST', 'stage2', this.#tokens.stage2))
    this.#tokens = { ...this.#tokens, ...answer.handover.tokens }
  }

  async toReady(port: number): Promise<void> {
    const { tokens } = JSON.parse(await this.#ask(port, 'POST', 'stage3', this.#tokens.stage3))
    await this.#ask(port, 'POST', 'join', tokens.join)
    await this.#ask(port, 'POST', 'report', this.#tokens.report, 'message=success')
  }
}

async function stateOf({ database }: Site, name: string): Promise<string> {
  const storage = openAsItIs(database)
  try {
    const row = await storage.db
      .selectFrom('nodes')
      .select('state')
      .where('name', '=', name)
      .executeTakeFirstOrThrow()
    return row.state
  } finally {
    await storage.close()
  }
}

/** Asks the operator listener with the token that the release before made. */
async function listNodes({ dataDir }: Site, { operator }: Running): Promise<number> {
  const ca = readFileSync(join(dataDir, 'ca.crt'), 'utf8')
  const authorization = `Bearer ${readFileSync(join(dataDir, 'admin.token'), 'utf8').trim()}`
  return (await send({ port: operator, ca }, 'GET', '/api/v1/nodes', { authorization })).status
}

const lost = (): Promise<void> => Promise.reject(new Error('the server went away'))

t.test('from 0.5.0 and back', absent === undefined ? {} : { skip: absent }, async (t) => {
  await forEachPlace(t, async (t, place) => {
    // Each way of ending takes its turn at each step: one of the two databases sees it first.
    const ends = ['SIGTERM', 'SIGKILL'] as const
    await t.test('with open sessions', (t) =>
      thereAndBack(t, place, place === sqlite ? ends : [ends[1], ends[0]]),
    )
  })
})

type End = 'SIGTERM' | 'SIGKILL'

async function thereAndBack(t: Test, place: Place, [first, second]: readonly [End, End]): Promise<void> {
  const site = await install(t, place)
  const { old } = site
  const [node1, node2, node3] = ['node1', 'node2', 'node3'].map((name) => new Booting(site, name)) as [
    Booting,
    Booting,
    Booting,
  ]
  let server = await start(t, old, site)
  await node1.toStage2(server.port)
  await server.stop(first)

  server = await start(t, root, site)
  await node1.toReady(server.port)
  t.equal(await stateOf(site, 'node1'), 'ready', 'a boot that 0.5.0 began goes on')
  t.equal(await listNodes(site, server), 200, 'its operator tokens are good')
  t.equal((await pawl(root, site, ['event', 'verify'])).exit, 0, 'every chain verifies')
  await node2.toStage2(server.port)
  const refused = await pawl(root, site, ['database', 'downgrade', '--to', '0.5.0', '--yes'])
  t.equal(refused.exit, 1)
  t.match(refused.stderr, /is in use: .*\nhint: stop every server on it first/s)
  await server.stop(second)

  const strange = await pawl(root, site, ['database', 'downgrade', '--to', '0.0.9'])
  t.equal(strange.exit, 2)
  t.match(
    strange.stderr,
    /"0\.0\.9" is no release that this Pawl can go back to\nhint: it can go back to 0\.2\.0, 0\.3\.0/,
  )
  const preview = await pawl(root, site, ['database', 'downgrade', '--to', '0.5.0'])
  t.match(preview.stdout, /^would be taken back to 0\.5\.0: 0027-fewer-indexes\n/, preview.stderr)
  t.notMatch(preview.stdout, 'lost:', 'no table is new since')
  const back = await pawl(root, site, ['database', 'downgrade', '--to', '0.5.0', '--yes'])
  t.equal(back.exit, 0, back.stderr)
  t.match(back.stdout, /everything as it was before: .*downgrade-\d{8}T\d{6}Z\.tar/)

  server = await start(t, old, site)
  await node2.toReady(server.port)
  t.equal(await stateOf(site, 'node2'), 'ready', 'a boot that this version began goes on in 0.5.0')
  t.equal(await stateOf(site, 'node1'), 'ready', 'and what was there is there')
  t.equal(await listNodes(site, server), 200)
  t.equal((await pawl(old, site, ['event', 'verify'])).exit, 0, 'by its own reading of the chains')
  t.equal((await pawl(old, site, ['event', 'list'])).exit, 0, 'it shows events that it does not know')
  await node3.toStage2(server.port)
  await server.stop(first)

  server = await start(t, root, site)
  await node3.toReady(server.port)
  t.equal(await stateOf(site, 'node3'), 'ready', 'and forward again')
  t.equal((await pawl(root, site, ['event', 'verify'])).exit, 0)
  await server.stop('SIGTERM')
}

const noRolling = absent ?? (process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent())

t.test('both at once on PostgreSQL', noRolling === undefined ? {} : { skip: noRolling }, async (t) => {
  await forEachPlace(t, async (t, place) => {
    if (place === sqlite) {
      t.pass('SQLite has one server')
      return
    }
    const site = await install(t, place)
    const ca = readFileSync(join(site.dataDir, 'ca.crt'), 'utf8')
    const before = await start(t, site.old, site)
    const [node1, node2] = ['node1', 'node2'].map((name) => new Booting(site, name)) as [Booting, Booting]
    await node1.toStage2(before.port)
    const after = await start(t, root, site) // it changes the schema under the older one
    await node1.toReady(after.port)
    t.equal(await stateOf(site, 'node1'), 'ready', 'begun by the older, ended by the newer')
    await node2.toStage2(after.port)
    await node2.toReady(before.port)
    t.equal(await stateOf(site, 'node2'), 'ready', 'begun by the newer, ended by the older')
    for (const { port } of [before, after]) {
      await bootRobot({ port, ca, host: 'node3', secret: site.secret, onLost: lost })
      t.equal(await stateOf(site, 'node3'), 'ready')
    }
    t.same(await Promise.all([listNodes(site, before), listNodes(site, after)]), [200, 200])
    t.equal((await pawl(root, site, ['event', 'verify'])).exit, 0, 'every chain verifies')
    await before.stop('SIGTERM')
    await after.stop('SIGTERM')
  })
})

t.test('a database that a newer Pawl made is said to be one', async (t) => {
  await forEachPlace(t, async (t, place) => {
    const dataDir = temporaryFolder(t)
    const database = await place(dataDir)
    await withStorage(database, async ({ db }) => {
      const row = { name: '9999-later', timestamp: new Date().toISOString() }
      await (
        db as never as { insertInto(table: string): { values(row: object): { execute(): Promise<unknown> } } }
      )
        .insertInto('kysely_migration')
        .values(row)
        .execute()
    })
    const newer = {
      code: 'storage-unavailable',
      message: /made by a newer Pawl: it has the schema change 9999-later/,
      hint: /run the newer Pawl/,
    }
    await t.rejects(
      withStorage(database, async () => {}),
      newer,
    )
  })
})
