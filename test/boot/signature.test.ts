import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { digestOf } from '../../src/domain/digest.ts'
import { applyProfile, eventsOf, pawlLines, profile, type Site, startSite } from './helpers/site.ts'

/** What a machine does with images that are not as their publisher signed them, whatever the server says of them. */
const site = await startSite()
t.teardown(() => site.stop())

function inDatabase(site: Site, work: (db: Database.Database) => void): void {
  const db = new Database(join(site.dataDir, 'pawl.db'), { timeout: 10_000 })
  try {
    work(db)
  } finally {
    db.close()
  }
}

/** Boots a node until it gives up; returns what its console said in Pawl's words. */
async function bootRefused(t: Test, name: string, error: RegExp): Promise<string> {
  const autoexec = await site.addNode(name)
  const machine = await site.powerOn(name, autoexec, { timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor(error, 600)
  await machine.waitFor('pawl: stage2: reported to the server')
  await machine.powerOff()
  t.notMatch(machine.console(), 'pawl: stage2: kernel: downloading', 'nothing was downloaded')
  t.notMatch(machine.console(), 'pawl: stage2: kexec')
  t.match(await site.pawl('node', 'show', name), { state: 'failed', failureCause: 'reported' })
  t.comment(pawlLines(machine))
  return JSON.stringify(await eventsOf(site, '--node', name, '--kind', 'session-failed'))
}

t.test(
  'a manifest that was changed in the database is refused by the node, and the server learns of it',
  async (t) => {
    inDatabase(site, (db) => {
      const { manifest } = db.prepare("select manifest from images where name = 'pawl-stage3'").get() as {
        manifest: string
      }
      const changed = canonicalJson({ ...JSON.parse(manifest), kernelArguments: 'init=/bin/evil' })
      // As well as someone can who has the database, but not the publisher's key: the digest fits.
      db.prepare("update images set manifest = ?, digest = ? where name = 'pawl-stage3'").run(
        changed,
        digestOf(changed),
      )
    })
    const events = await bootRefused(
      t,
      'tampered',
      /pawl: stage2: error: no publisher that this stage-2 image trusts signed this manifest of pawl-stage3@1/,
    )
    t.match(
      events,
      /no publisher that this stage-2 image trusts signed this manifest/,
      'the event has the words',
    )
  },
)

t.test(
  'an unsigned image that its profile accepts is refused by a node whose stage 2 trusts publishers',
  async (t) => {
    inDatabase(site, (db) => db.prepare("delete from image_signatures where name = 'pawl-stage3'").run())
    await applyProfile(site, `${profile()}acceptUnsigned: true\n`)
    const events = await bootRefused(t, 'unsigned', /pawl: stage2: error: pawl-stage3@1 is not signed/)
    t.match(events, /pawl-stage3@1 is not signed/)
  },
)
