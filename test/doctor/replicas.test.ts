import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import manifest from '../../package.json' with { type: 'json' }
import { replicas } from '../../src/doctor/replicas.ts'
import { type Marks, readMarks } from '../../src/replica-marks.ts'
import { openAsItIs } from '../../src/storage/database.ts'
import { saveProcess } from '../../src/storage/processes.ts'
import { configOf, install, postgres, temporaryFolder, withStorage } from '../backup/helpers.ts'
import { postgresAbsent } from '../helpers/postgres.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? false)
const now = new Date('2026-11-21T12:00:00Z')

t.test('servers that do not fit together are found', { skip }, async (t) => {
  const { dataDir, database } = await install(t, postgres)
  const config = configOf(dataDir, { database })
  const marks = await readMarks(config)
  const storage = openAsItIs(database, { readOnly: true })
  t.teardown(() => storage.close())
  const look = () =>
    replicas({
      ...{ dataDir, config, storage, now, version: manifest.version, hostName: 'a', nodeVersion: '24.0.0' },
      ...{ templatesFolder: '', full: false, isAlive: () => false, announced: undefined },
    })
  const tell = (host: string, other: Marks, wish: { version?: string; leads?: number; at?: string } = {}) =>
    withStorage(database, (storage) =>
      storage.transaction((tx) =>
        saveProcess(tx, {
          ...{ id: host, host, pid: 7, role: 'server', stats: '{}', marks: JSON.stringify(other) },
          ...{ version: wish.version ?? manifest.version, leads: wish.leads ?? 0 },
          ...{ started_at: now.toISOString(), seen_at: wish.at ?? now.toISOString() },
        }),
      ),
    )
  t.match(await look(), [{ level: 'ok', found: 'no server runs on this database' }])
  await tell('a', marks)
  t.match(await look(), [{ level: 'warn', found: /^none of 1 servers leads/ }])
  await tell('a', marks, { leads: 1 })
  t.match(await look(), [{ level: 'ok', found: /^1 of one version, .* a \(process 7\) leads$/ }])
  await tell('gone', { ...marks, 'settings key': 'x' }, { at: '2026-11-21T11:59:39.000Z' })
  t.match(await look(), [{ level: 'ok' }], 'who was not heard of for 21 s does not count')
  await withStorage(database, (storage) =>
    storage.transaction((tx) =>
      saveProcess(tx, {
        ...{
          id: 'w',
          host: 'a',
          pid: 8,
          role: 'worker',
          stats: '{}',
          version: null,
          leads: null,
          marks: null,
        },
        ...{ started_at: now.toISOString(), seen_at: now.toISOString() },
      }),
    ),
  )
  t.match(await look(), [{ level: 'ok', found: /^1 of one version/ }], 'a worker is no server of its own')
  await tell('b', { ...marks, 'settings key': 'x', tokenLifetimeSeconds: '60' }, { version: '0.1.0' })
  t.match(await look(), [
    { level: 'fail', found: 'the server on b (process 7) has another settings key than this data folder' },
    {
      level: 'warn',
      found: 'the server on b (process 7) has another tokenLifetimeSeconds than this data folder',
    },
    { level: 'warn', found: `the server on b (process 7) is version 0.1.0, this is ${manifest.version}` },
    { level: 'warn', found: '2 hosts, and images are kept in a folder' },
  ])
})

t.test('what must be the same is told apart, and no key is in it', async (t) => {
  const { dataDir } = await install(t)
  const copy = join(temporaryFolder(t), 'copy')
  cpSync(dataDir, copy, { recursive: true, mode: 0 })
  const marks = await readMarks(configOf(dataDir))
  t.same(await readMarks(configOf(copy)), marks, 'a copy is the same')
  for (const key of ['settings.key', 'issuing.key', 'checkpoint.key', 'clients.key']) {
    const text = readFileSync(join(dataDir, 'pki', key), 'utf8').trim()
    t.notOk(JSON.stringify(marks).includes(text.slice(0, 40)), key)
  }
  writeFileSync(join(copy, 'pki', 'settings.key'), `${'ab'.repeat(32)}\n`)
  writeFileSync(join(copy, 'ipxe-templates', 'held.ipxe'), '#!ipxe\n')
  const other = await readMarks(configOf(copy))
  t.same(
    Object.keys(marks).filter((name) => marks[name] !== other[name]),
    ['settings key', 'iPXE templates'],
  )
})
