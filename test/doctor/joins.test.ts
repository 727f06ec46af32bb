import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { loadConfig } from '../../src/config.ts'
import type { Finding, Subject } from '../../src/doctor/finding.ts'
import { joins } from '../../src/doctor/joins.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { mapSecrets } from '../../src/fleet/profile-secrets.ts'
import { initPawl } from '../../src/init.ts'
import { settingsKey } from '../../src/pki/settings-key.ts'
import { openStorage } from '../../src/storage/database.ts'
import { joiningProfile } from '../helpers/joining.ts'
import { type KubernetesStandIn, startKubernetesApi } from '../helpers/kubernetes-api.ts'

/** What the doctor says of a profile whose boots join a stand-in for a cluster. */
async function look(
  t: Test,
  api: KubernetesStandIn,
  settings: Readonly<Record<string, unknown>>,
  now = new Date(),
): Promise<Finding[]> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-doctor-joins-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  const database = join(dataDir, 'pawl.db')
  await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: new Date() })
  const config = loadConfig({
    flags: { data: dataDir, clusterTimeoutSeconds: '1' },
    env: {},
    fileName: 'none',
  })
  const sealer = settingsSealer(settingsKey(dataDir))
  const profile = mapSecrets(parseProfile(joiningProfile(api, settings)), (value, { place }) =>
    sealer.seal(value, place),
  )
  const storage = await openStorage(database)
  t.teardown(() => storage.close())
  const at = now.toISOString()
  await storage.db
    .insertInto('profiles')
    .values({
      ...{ name: 'demo', document: JSON.stringify(writeProfile(profile)), revision: 1 },
      ...{ created_at: at, updated_at: at },
    })
    .execute()
  const subject: Partial<Subject> = { dataDir, config, storage, now }
  return joins(subject as Subject) // it looks at nothing else
}

t.test('each cluster is asked whether it would make and delete a token, and nothing is made', async (t) => {
  const api = await startKubernetesApi(t)
  const narrow = ({ method }: { method: string }): boolean => method === 'POST' || method === 'DELETE'
  const table: [
    what: string,
    settings: Record<string, unknown>,
    prepare: () => void,
    level: Finding['level'],
    found: RegExp,
  ][] = [
    ['all is well', {}, () => {}, 'ok', /^localhost:\d+ makes and deletes bootstrap tokens/],
    [
      'it may not delete',
      {},
      () => {
        api.allows = ({ method }) => method === 'POST'
      },
      'fail',
      /may not delete Secrets in kube-system/,
    ],
    [
      'it may read',
      {},
      () => {
        api.allows = () => true
      },
      'warn',
      /may read the Secrets/,
    ],
    ['another CA', { kubeconfig: api.kubeconfig({ ca: 'another' }) }, () => {}, 'fail', /not of a CA/],
    ['another token', { kubeconfig: api.kubeconfig({ token: 'wrong' }) }, () => {}, 'fail', /\(401\)/],
    [
      'it has ended',
      { kubeconfig: api.kubeconfig({ as: 'expired-certificate' }) },
      () => {},
      'fail',
      /^kubeconfig has a client certificate that ended at/,
    ],
    [
      'nothing listens',
      { kubeconfig: api.kubeconfig({ server: 'https://127.0.0.1:9' }) },
      () => {},
      'fail',
      /nothing listens there/,
    ],
    [
      'it hangs',
      {},
      () => {
        api.answer = () => 'hang'
      },
      'fail',
      /in time/,
    ],
  ]
  for (const [what, settings, prepare, level, found] of table) {
    api.allows = narrow
    api.answer = () => undefined
    prepare()
    const [first] = await look(t, api, settings)
    t.match(first, { check: 'join of demo, boot', level, found }, what)
  }
  t.same([...api.objects.keys()], [])
  t.notOk(
    api.requests.some(({ path }) => path.includes('/secrets')),
    'no Secret was asked for',
  )
})

t.test('a kubeconfig that ends soon is told of, and one token for all needs no cluster', async (t) => {
  const api = await startKubernetesApi(t)
  api.allows = ({ method }) => method !== 'GET'
  const settings = { kubeconfig: api.kubeconfig({ as: 'certificate' }) }
  const { users } = parse(settings.kubeconfig)
  const { validTo } = new X509Certificate(Buffer.from(users[0].user['client-certificate-data'], 'base64'))
  const soon = new Date(Date.parse(validTo) - 5.5 * 86_400_000)
  t.match(await look(t, api, settings, soon), [
    { level: 'warn', found: 'the client certificate of its kubeconfig ends in 5 days' },
  ])
  const token = {
    kubeconfig: undefined,
    token: 'abcdef.0123456789abcdef',
    caCertHash: `sha256:${'0'.repeat(64)}`,
  }
  const plain = JSON.parse(JSON.stringify(joiningProfile(api, token))).boot.join.settings
  api.requests.length = 0
  t.same(await look(t, api, { ...plain, kubeconfig: undefined }), [])
  t.same(api.requests, [])
})
