import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { radosgwPackages, startRadosgw } from '../helpers/radosgw.ts'
import { applyProfile, eventsOf, profile, startSite } from './helpers/site.ts'
import { ensureBootTools } from './helpers/tools.ts'

/** Artifacts in a real object store: what iPXE loads comes from the server, the stage-3 image from the store. */
const folder = mkdtempSync(join(tmpdir(), 'pawl-redirect-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
ensureBootTools((line) => t.comment(line), radosgwPackages)
const { bucket, endpoint, credentials } = await (await startRadosgw()).createBucket()
const keys = join(folder, 'keys')
writeFileSync(
  keys,
  `aws_access_key_id = ${credentials.accessKeyId}\naws_secret_access_key = ${credentials.secretAccessKey}\n`,
  { mode: 0o600 },
)
const seenByMachines = endpoint.replace('127.0.0.1', '10.0.2.2')
const site = await startSite({
  flags: [
    ...['--artifacts', `s3://${bucket}/site1`],
    ...['--s3-endpoint', endpoint],
    ...['--s3-public-endpoint', seenByMachines],
    ...['--s3-credentials-file', keys],
  ],
})
t.teardown(() => site.stop())

t.test('a machine fetches the stage-3 image from the object storage, and boots to ready', async (t) => {
  await applyProfile(site, `redirects: true\n${profile()}`)
  const machine = await site.powerOn('store1', await site.addNode('store1'), { timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: ready', 600)
  await machine.exited
  for (const what of ['stage2: kernel', 'stage2: initramfs', 'stage3: filesystem'])
    t.ok(machine.console().includes(`pawl: ${what} verified`), what)
  t.notMatch(machine.console(), /asked from now on/, 'nothing had to come from the server instead')

  const events = await eventsOf(site, '--node', 'store1', '--kind', 'download-redirected')
  t.strictSame(
    events.map(({ detail }) => [detail.role, detail.to]),
    ['kernel', 'initramfs', 'filesystem'].map((role) => [role, seenByMachines]),
  )
  const { stages } = await site.pawl('node', 'timeline', 'store1')
  const { manifest } = await site.pawl('image', 'show', 'pawl-stage3@1')
  const sizes = (manifest.artifacts as { size: number }[]).map(({ size }) => size)
  t.equal(
    stages[1].bytes,
    sizes.reduce((sum, size) => sum + size, 0),
    'each is counted once',
  )
  for (const secret of ['X-Amz-Signature', credentials.secretAccessKey]) {
    t.notOk(machine.console().includes(secret), `${secret} is not on the console`)
    t.notOk(site.log().includes(secret), `nor in the log`)
  }
})
