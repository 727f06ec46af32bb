import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { initPawl } from '../../src/init.ts'
import { listEvents, verifyChains } from '../../src/storage/events.ts'
import { bootRobot, send } from '../helpers/robot.ts'
import {
  alone,
  backup,
  configOf,
  forEachPlace,
  type Installed,
  install,
  type Place,
  portOf,
  postgres,
  restore,
  serve,
  sqlite,
  temporaryFolder,
  withStorage,
} from './helpers.ts'
import { backupRecord } from './record.ts'

/** Boots a node as far as stage 2; returns the stage-3 token it was given, and the session's handover. */
async function bootToStage2(installed: Installed, port: number, host: string): Promise<{ stage3: string }> {
  const { ca, secret } = installed
  const ask = (method: string, path: string, token?: string) =>
    send(
      { port, ca },
      method,
      `/v1/boot/${host}${path}`,
      token === undefined ? {} : { authorization: `Bearer ${token}` },
    )
  const script = await ask('GET', `/stage1.ipxe?secret=${secret}&serial=ROBOT&platform=efi`)
  const k = /handover\?k=([\w-]{44})/.exec(script.text)?.[1]
  const { tokens } = JSON.parse((await ask('GET', `/handover?k=${k}`)).text)
  const answer = JSON.parse((await ask('POST', '/stage2', tokens.stage2)).text)
  return { stage3: answer.handover.tokens.stage3 }
}

const lost = (): Promise<void> => Promise.reject(new Error('the server went away'))

await forEachPlace(t, async (t, place) => {
  const other: Place = place === sqlite ? postgres : sqlite
  for (const [name, target] of [
    ['the same kind of database', place],
    ['the other kind', other],
  ] as const) {
    await t.test(`a backup under load, restored into ${name}: open boots end, and nodes boot`, (t) =>
      roundTrip(t, place, target),
    )
  }
})

async function roundTrip(t: Test, place: Place, target: Place): Promise<void> {
  const installed = await install(t, place)
  const { dataDir, database, ca, secret } = installed
  const server = await serve(t, dataDir, database)
  const { stage3 } = await bootToStage2(installed, portOf(server), 'node1')
  await withStorage(database, async ({ db }) => {
    await db.updateTable('nodes').set({ reinstall: 'marked' }).where('name', '=', 'node3').execute()
    await db.updateTable('nodes').set({ armed: 1 }).where('name', '=', 'node2').execute()
  })
  // A reinstall that is being served, and boots all the while.
  await bootToStage2(installed, portOf(server), 'node3')
  let boots = 0
  let over = false
  const load = (async () => {
    while (!over) {
      await withStorage(database, ({ db }) =>
        db
          .updateTable('sessions')
          .set({ started_at: '2000-01-01T00:00:00.000Z' })
          .where('ended_at', 'is not', null)
          .execute(),
      )
      await bootRobot({ port: portOf(server), ca, host: 'node2', secret, onLost: lost })
      boots += 1
    }
  })()
  const file = join(temporaryFolder(t), 'pawl.tar')
  const made = await backup(installed, file)
  over = true
  await load
  t.ok(boots > 0, `${boots} boots meanwhile`)
  t.match(made, { artifacts: 'included', artifactCount: 9, damaged: [], missing: [], leftOut: [] })
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.equal(statSync(file).size, made.bytes)
  t.same(
    readdirSync(join(dataDir, 'artifacts')).sort(),
    ['sha256', 'tmp'],
    'nothing of it is left in the store',
  )
  t.match(await backupRecord(database), [{ kind: 'backup-made', actor: 'operator:backup' }])
  // After the backup the token is used: in it, it looks unused.
  const redeem = (port: number) =>
    send({ port, ca }, 'POST', '/v1/boot/node1/stage3', { authorization: `Bearer ${stage3}` })
  t.equal((await redeem(portOf(server))).status, 200)
  await server.close()

  const restoredDir = join(temporaryFolder(t), 'restored')
  const restoredDatabase = await target(restoredDir)
  const restored = await restore(file, restoredDir, restoredDatabase)
  t.match(restored, { artifactCount: 9, damaged: [], marked: ['node3'] })
  t.ok(restored.sessions === 2 || restored.sessions === 3, 'node1, node3, and node2 where it was booting')
  t.match(restored.operators, [{ name: 'admin', role: 'admin' }])
  t.notOk(existsSync(join(restoredDir, '.restoring')))
  for (const name of [
    'ca.crt',
    'pki/root.key',
    'pki/settings.key',
    'admin.token',
    'publisher.key',
    'pawl.yaml',
  ])
    t.same(readFileSync(join(restoredDir, name)), readFileSync(join(dataDir, name)), name)
  t.ok(existsSync(join(restoredDir, 'ipxe-templates', 'held.ipxe')))
  for (const digest of installed.digests) {
    const bytes = readFileSync(join(restoredDir, 'artifacts', 'sha256', digest))
    t.equal(createHash('sha256').update(bytes).digest('hex'), digest)
  }
  await withStorage(restoredDatabase, async ({ db }) => {
    t.same((await verifyChains(db)).faults, [], 'every chain verifies')
    t.same(await db.selectFrom('sessions').select('id').where('ended_at', 'is', null).execute(), [])
    t.same(await db.selectFrom('tokens').select('id').where('retired_at', 'is', null).execute(), [])
    const nodes = await db
      .selectFrom('nodes')
      .select(['name', 'state', 'reinstall', 'armed'])
      .orderBy('name')
      .execute()
    t.match(nodes, [
      { name: 'node1', state: 'failed', reinstall: 'none', armed: 0 },
      { name: 'node2', armed: 0 },
      { name: 'node3', state: 'failed', reinstall: 'marked' },
    ])
    const [event] = await listEvents(db, { kind: 'restored', limit: 10 })
    t.match(JSON.parse(event?.detail ?? ''), {
      sessions: restored.sessions,
      version: '0.2.0',
      madeAt: made.createdAt,
      marked: 1,
    })
  })

  const again = await serve(t, restoredDir, restoredDatabase)
  t.equal((await redeem(portOf(again))).status, 403, 'a token that was used after the backup opens nothing')
  const ready = await bootRobot({ port: portOf(again), ca, host: 'node1', secret, onLost: lost })
  t.equal(ready.stage1s, 1, 'and the node boots, by the secret and the root that it has')
  await again.close()
  await withStorage(restoredDatabase, async ({ db }) => {
    const node = await db
      .selectFrom('nodes')
      .select('state')
      .where('name', '=', 'node1')
      .executeTakeFirstOrThrow()
    t.equal(node.state, 'ready')
    t.same((await verifyChains(db)).faults, [])
  })
}

t.test('what a prune takes away meanwhile is in the backup', async (t) => {
  const installed = await install(t)
  const file = join(temporaryFolder(t), 'pawl.tar')
  const [first = ''] = installed.digests
  const made = await backup(installed, file, {
    faults: (member) => {
      if (member === 'pawl-backup.json') rmSync(join(installed.dataDir, 'artifacts', 'sha256', first))
    },
  })
  t.match(made, { artifactCount: 9, missing: [] })
})

t.test('what is not as it should be is told, and the rest is there', async (t) => {
  const installed = await install(t)
  const { dataDir, digests } = installed
  const [bad = '', gone = ''] = digests
  const at = (digest: string): string => join(dataDir, 'artifacts', 'sha256', digest)
  writeFileSync(at(bad), readFileSync(at(bad), 'utf8').replace('small', 'smoll'))
  rmSync(at(gone))
  symlinkSync('/etc/hostname', join(dataDir, 'link'))
  const file = join(temporaryFolder(t), 'pawl.tar')
  t.match(await backup(installed, file), {
    artifactCount: 8,
    damaged: [bad],
    missing: [gone],
    leftOut: ['link'],
  })
  const to = join(temporaryFolder(t), 'to')
  t.match(await restore(file, to, join(to, 'pawl.db')), { damaged: [bad] })
  t.notOk(existsSync(join(to, 'artifacts', 'sha256', bad)), 'bad bytes are not put in place')
  t.notOk(existsSync(join(to, 'link')))
  const small = join(temporaryFolder(t), 'small.tar')
  t.match(await backup(installed, small, { withArtifacts: false }), {
    artifacts: 'left-out',
    artifactCount: 0,
  })
})

t.test('a backup is never written over a file, and leaves nothing where it fails', async (t) => {
  const installed = await install(t)
  const folder = temporaryFolder(t)
  writeFileSync(join(folder, 'there'), 'x')
  await t.rejects(backup(installed, join(folder, 'there')), {
    code: 'exists',
    message: /there is there already/,
  })
  await t.rejects(backup(installed, join(folder, 'none', 'x')), { code: 'invalid', message: /ENOENT/ })
  const faults = (): never => {
    throw new Error('cut')
  }
  await t.rejects(backup(installed, join(folder, 'cut'), { faults }), { message: 'cut' })
  t.same(readdirSync(folder), ['there'])
  t.same(readdirSync(join(installed.dataDir, 'artifacts')).sort(), ['sha256'])
  t.equal(readFileSync(join(folder, 'there'), 'utf8'), 'x')
})

t.test('what a killed backup left is removed by the next, and that of a running one is not', async (t) => {
  const installed = await install(t)
  const folder = join(installed.dataDir, 'artifacts')
  for (const name of ['backup-11', 'backup-12', 'sha256-not-ours']) mkdirSync(join(folder, name))
  await backup(installed, join(temporaryFolder(t), 'x.tar'), { isAlive: (id) => id === 12 })
  t.same(readdirSync(folder).sort(), ['backup-12', 'sha256', 'sha256-not-ours'])
})

t.test('nothing is restored over anything', async (t) => {
  const installed = await install(t)
  const file = join(temporaryFolder(t), 'pawl.tar')
  await backup(installed, file)
  const { dataDir } = installed
  const before = readdirSync(dataDir)
  await t.rejects(restore(file, dataDir, join(dataDir, 'pawl.db')), {
    code: 'exists',
    message: /is not empty: it holds/,
  })
  const server = await serve(t, dataDir, installed.database)
  await t.rejects(restore(file, dataDir, join(dataDir, 'pawl.db'), { isAlive: () => true }), {
    code: 'exists',
    message: /a server runs on .*: nothing is restored over it/,
  })
  await server.close()
  t.same(
    readdirSync(dataDir).filter((name) => name !== 'server.json'),
    before,
  )
  // A database with rows, outside an empty folder.
  const to = join(temporaryFolder(t), 'to')
  await t.rejects(restore(file, to, installed.database), {
    code: 'exists',
    message: /is not empty: table .* holds rows/,
  })
  t.same(readdirSync(to), [], 'and nothing is left')
  t.ok(existsSync(installed.database))
  // A file that this restore did not make stays, whatever is wrong with it: `restore` once removed it.
  const precious = join(temporaryFolder(t), 'precious.db')
  writeFileSync(precious, 'not a database, but somebody needs it\n'.repeat(100))
  await t.rejects(restore(file, to, precious), { code: 'storage-unavailable' })
  t.ok(existsSync(precious), 'the file of another is left alone')
  // Another restore that runs there.
  mkdirSync(join(to, '.restoring'), { mode: 0o700 })
  writeFileSync(join(to, '.restoring', 'owner'), '77')
  await t.rejects(restore(file, to, join(to, 'pawl.db'), { isAlive: (id) => id === 77 }), {
    code: 'conflict',
    message: /another restore .* is running \(process 77\)/,
  })
  const cut = { code: 'conflict', message: /was cut off/, hint: /run the same pawl restore again/ }
  const init = {
    dataDir: to,
    database: join(to, 'pawl.db'),
    publicUrl: undefined,
    names: [],
    now: new Date(),
  }
  await t.rejects(initPawl(init), cut, 'nothing starts on it meanwhile')
  await t.rejects(backup({ dataDir: to, database: join(to, 'pawl.db') }, join(to, 'x')), cut)
  await restore(file, to, join(to, 'pawl.db'), { isAlive: () => false })
  t.same(readdirSync(to).includes('.restoring'), false)
  const open = join(temporaryFolder(t), 'open')
  mkdirSync(open, { mode: 0o755 })
  await t.rejects(restore(file, open, join(open, 'pawl.db')), { code: 'key-unreadable', hint: /chmod 700/ })
})

t.test('a settings file that names another database is told of', async (t) => {
  const installed = await install(t)
  const { dataDir } = installed
  writeFileSync(join(dataDir, 'pawl.yaml'), 'database: /elsewhere/pawl.db\n', { mode: 0o600 })
  t.equal(configOf(dataDir).database, '/elsewhere/pawl.db')
  const file = join(temporaryFolder(t), 'pawl.tar')
  await backup(installed, file)
  const to = join(temporaryFolder(t), 'to')
  const restored = await restore(file, to, join(to, 'pawl.db'))
  t.match(restored, { database: join(to, 'pawl.db'), settingsDatabase: '/elsewhere/pawl.db' })
  t.ok(alone.isAlive(process.pid))
})
