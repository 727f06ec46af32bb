import t from 'tap'
import { send } from '../helpers/robot.ts'
import { applyProfile, eventsOf, pawlLines, profile, startSite } from './helpers/site.ts'

/** A boot from the installed disk, and a machine whose media names no node. */
const site = await startSite()
t.teardown(() => site.stop())
t.jobs = 2

t.test(
  'a local sequence hands the machine to its installed disk, and is recorded',
  { buffered: true },
  async (t) => {
    await applyProfile(site, 'name: disk\nboot: local\n')
    const autoexec = await site.addNode('disk')
    await site.pawl('node', 'set', 'disk', '--profile', 'disk')
    const installedDisk = '#!ipxe\necho This is the installed system\npoweroff\n'
    const machine = await site.powerOn('disk', autoexec, { installedDisk, timeoutSeconds: 300 })
    t.teardown(() => machine.powerOff())
    await machine.waitFor('Pawl: node disk boots its installed disk', 200)
    await machine.waitFor('This is the installed system', 100)
    await machine.powerOff()
    t.comment(pawlLines(machine))
    t.match(await site.pawl('node', 'show', 'disk'), {
      state: 'ready',
      session: { local: true, state: 'ready', stage: 'stage1' },
    })
    t.match(await eventsOf(site, '--node', 'disk', '--kind', 'booted-local'), [
      { detail: { sequence: 'boot' } },
    ])
  },
)

t.test(
  'a machine whose media names no node shows a code, and boots by itself once it is approved',
  { buffered: true },
  async (t) => {
    await applyProfile(
      site,
      `${profile().replace('name: demo', 'name: open')}evidence: [address]\nacceptAddressOnly: true\n`,
    )
    const autoexec = (await send({ port: site.bootPort, ca: site.ca }, 'GET', '/v1/boot/autoexec.ipxe')).text
    const machine = await site.powerOn('nameless', autoexec, { timeoutSeconds: 400 })
    t.teardown(() => machine.powerOff())
    const line = await machine.waitFor(/pawl node approve [0-9a-z]{5}-[0-9a-z]{5}/, 200)
    const code = /approve (\S+)/.exec(line)?.[1] ?? ''
    const { items } = await site.pawl('node', 'pending')
    t.equal(items[0]?.code, code)
    await site.pawl('node', 'approve', code, '--name', 'found', '--profile', 'open')
    await machine.waitFor('pawl: ready', 300)
    await machine.exited
    t.comment(pawlLines(machine))
    t.match(await site.pawl('node', 'show', 'found'), { state: 'ready', session: { state: 'ready' } })
  },
)
