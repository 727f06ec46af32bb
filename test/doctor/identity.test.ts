import t from 'tap'
import { identityRing } from '../../src/boot/identity-keys.ts'
import { makeKey } from '../../src/boot/key-ring.ts'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { identity } from '../../src/doctor/identity.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { settingsKey } from '../../src/pki/settings-key.ts'
import { openAsItIs } from '../../src/storage/database.ts'
import { configOf, install, withStorage } from '../backup/helpers.ts'

const now = new Date('2026-11-21T12:00:00Z')

t.test('a key of identities that cannot be opened, or is too old, is found', async (t) => {
  const { dataDir } = await install(t)
  const config = configOf(dataDir)
  const storage = openAsItIs(config.database, { readOnly: true })
  t.teardown(() => storage.close())
  const look = (more: object = {}) =>
    identity({
      ...{
        dataDir,
        config: { ...config, ...more },
        storage,
        now,
        version: '0',
        hostName: 'a',
        nodeVersion: '24.0.0',
      },
      ...{ templatesFolder: '', full: false, isAlive: () => false, announced: undefined },
    })
  const write = (sql: (db: Parameters<Parameters<typeof withStorage>[1]>[0]['db']) => Promise<unknown>) =>
    withStorage(config.database, ({ db }) => sql(db))
  await write((db) => db.deleteFrom('identity_keys').execute())
  t.match(await look(), [{ level: 'ok', found: 'no profile gives its nodes an identity' }])
  const boot = { stage2: 'small@1', stage3: 'full@1' }
  const document = writeProfile(parseProfile({ name: 'identified', boot, identity: { audiences: ['a'] } }))
  const at = now.toISOString()
  const profile = {
    name: 'identified',
    document: JSON.stringify(document),
    revision: 1,
    created_at: at,
    updated_at: at,
  }
  await write((db) => db.insertInto('profiles').values(profile).execute())
  t.match(await look(), [{ level: 'warn', found: 'there is no key to sign with yet' }])
  const key = await makeKey(identityRing, { sealer: settingsSealer(settingsKey(dataDir)) })
  const row = { ...key, generation: 1, made_at: at, signs_from: at, ends_at: null }
  await write((db) => db.insertInto('identity_keys').values(row).execute())
  t.match(await look({ publicUrl: undefined }), [
    { level: 'warn', found: /^the issuer is made of the host name/ },
  ])
  t.match(await look({ identityIssuer: 'https://id.example.com' }), [
    { level: 'ok', found: `https://id.example.com signs for 1 profile by key ${key.kid}` },
  ])
  const old = { signs_from: '2026-10-20T12:00:00.000Z' }
  await write((db) => db.updateTable('identity_keys').set(old).execute())
  t.match(await look(), [
    { level: 'warn', found: 'the key has signed for 32 days, and should change every 30' },
  ])
  const foreign = await makeKey(identityRing, { sealer: settingsSealer(Buffer.alloc(32, 1)) })
  await write((db) => db.updateTable('identity_keys').set(foreign).execute())
  t.match(await look(), [
    { level: 'fail', found: `the key ${foreign.kid} of node identities cannot be opened` },
  ])
})
