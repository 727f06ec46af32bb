import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { initPawl } from '../src/init.ts'

t.test('a PostgreSQL that cannot be reached leaves no data folder behind', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-init-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  // Nothing listens on port 1 of the loopback.
  const options = { dataDir, publicUrl: undefined, names: [], now: new Date('2026-11-21T06:00:00Z') }
  for (const database of ['postgres://127.0.0.1:1/pawl', 'postgres://127.0.0.1:1,127.0.0.1:2/pawl']) {
    await t.rejects(initPawl({ ...options, database }), { code: 'storage-unavailable' })
    t.notOk(existsSync(dataDir))
  }
})
