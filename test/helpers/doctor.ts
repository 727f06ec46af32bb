import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { loadConfig } from '../../src/config.ts'
import type { Check, Finding, Subject } from '../../src/doctor/finding.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { mapSecrets } from '../../src/fleet/profile-secrets.ts'
import { initPawl } from '../../src/init.ts'
import { settingsKey } from '../../src/pki/settings-key.ts'
import { openStorage } from '../../src/storage/database.ts'

/** What one check of the doctor says of an installation that has this profile. */
export async function examineProfile(
  t: Test,
  document: Readonly<Record<string, unknown>>,
  run: Check['run'],
  now = new Date(),
): Promise<Finding[]> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-doctor-profile-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  const database = join(dataDir, 'pawl.db')
  await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: new Date() })
  const config = loadConfig({
    flags: { data: dataDir, clusterTimeoutSeconds: '4' },
    env: {},
    fileName: 'none',
  })
  const sealer = settingsSealer(settingsKey(dataDir))
  const profile = mapSecrets(parseProfile(document), (value, { place }) => sealer.seal(value, place))
  const storage = await openStorage(database)
  t.teardown(() => storage.close())
  const at = now.toISOString()
  await storage.db
    .insertInto('profiles')
    .values({
      ...{ name: profile.name, document: JSON.stringify(writeProfile(profile)), revision: 1 },
      ...{ created_at: at, updated_at: at },
    })
    .execute()
  const subject: Partial<Subject> = { dataDir, config, storage, now }
  return run(subject as Subject) // it looks at nothing else
}
