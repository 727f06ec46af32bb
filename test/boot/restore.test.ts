import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { eventsOf, startSite } from './helpers/site.ts'

/** The server's machine is lost: a backup comes back on another disk, and the machine in the rack boots as if nothing had been. */
const site = await startSite()
t.teardown(() => site.stop())

t.test('a machine whose media was made before boots after a restore', async (t) => {
  const autoexec = await site.addNode('kept')
  const file = join(site.dataDir, '..', 'pawl.tar')
  const made = await site.pawl('backup', file)
  t.match(made, { artifacts: 'included', damaged: [], missing: [] })
  await site.kill()
  await rename(site.dataDir, `${site.dataDir}.lost`)
  t.match(await site.pawl('restore', file), { artifactCount: made.artifactCount })
  await site.start()
  const machine = await site.powerOn('kept', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: ready', 600)
  t.ok(machine.console().includes('pawl: stage3: filesystem verified'))
  t.match(await site.pawl('node', 'show', 'kept'), { state: 'ready' })
  t.match(await site.pawl('event', 'verify'), { ok: true, faults: [] })
  const kinds = (await eventsOf(site)).map(({ kind }) => kind)
  t.ok(kinds.indexOf('restored') >= 0 && kinds.indexOf('restored') < kinds.indexOf('session-ready'))
  t.same(
    (await site.pawl('doctor')).findings.filter(({ level }: { level: string }) => level === 'fail'),
    [],
  )
})
