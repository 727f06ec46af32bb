import { setTimeout as second } from 'node:timers/promises'
import t from 'tap'
import { send } from '../helpers/robot.ts'
import { applyProfile, eventsOf, factsOf, pawlLines, profile, startSite } from './helpers/site.ts'

/** A boot from the installed disk, and a machine whose media names no node. */
const site = await startSite({ machines: 2 })
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
    const machine = await site.powerOn('disk', autoexec, { installedDisk, timeoutSeconds: 700 })
    t.teardown(() => machine.powerOff())
    await machine.waitFor('Pawl: node disk boots its installed disk', 600)
    await machine.waitFor('This is the installed system', 600)
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

/** Script and facts of a machine whose media names no node. */
const namelessScript = async (): Promise<string> =>
  (await send({ port: site.bootPort, ca: site.ca }, 'GET', '/v1/boot/autoexec.ipxe')).text

t.test(
  'a machine whose media names no node shows a code and its facts, keeps asking, and boots by its claim once it is approved',
  { buffered: true },
  async (t) => {
    await applyProfile(site, profile())
    const machine = await site.powerOn('nameless', await namelessScript(), { timeoutSeconds: 700 })
    t.teardown(() => machine.powerOff())
    const line = await machine.waitFor(/pawl node approve [0-9a-z]{5}-[0-9a-z]{5}/, 600)
    const code = /approve (\S+)/.exec(line)?.[1] ?? ''
    const { mac, uuid, serial } = factsOf('nameless')
    t.match(machine.console(), `Pawl: MAC ${mac}, serial ${serial}, UUID ${uuid}`)
    t.match(await site.pawl('node', 'pending'), {
      items: [{ code, claim: true, facts: { mac, uuid, serial } }],
    })
    const timesShown = (): number => machine.console().split(`pawl node approve ${code} `).length - 1
    for (let seconds = 0; timesShown() < 2 && seconds < 100; seconds += 1) await second(1000)
    t.equal(timesShown(), 2, 'it asks again, under the same code')
    const approved = await site.pawl('node', 'approve', code, '--name', 'found', '--profile', 'demo')
    t.match(approved.warnings, [/first boot goes on by itself/])
    await machine.waitFor('pawl: ready', 600)
    await machine.exited
    t.comment(pawlLines(machine))
    t.notMatch(machine.console(), /pawl-claim|claim=/, 'its claim is not on the console')
    t.match(await site.pawl('node', 'show', 'found'), {
      state: 'ready',
      serial,
      secret: { issued: false },
      session: { state: 'ready' },
    })
  },
)

t.test(
  'a machine whose serial number is in the list of a rule boots to ready with nobody at its console',
  { buffered: true },
  async (t) => {
    await applyProfile(site, profile())
    const { serial } = factsOf('ruled')
    const rule = ['--name', 'rack1', '--source', '127.0.0.1', '--serial', serial, '--profile', 'demo']
    await site.pawl('node', 'auto-approve', 'create', ...rule, '--node-name', 'rack1-{serial}', '--for', '1h')
    const machine = await site.powerOn('ruled', await namelessScript(), { timeoutSeconds: 700 })
    t.teardown(() => machine.powerOff())
    const name = `rack1-${serial.toLowerCase()}`
    await machine.waitFor(`Pawl: APPROVED by a rule: this machine is node ${name} now`, 600)
    await machine.waitFor('pawl: ready', 600)
    await machine.exited
    t.comment(pawlLines(machine))
    t.match(await site.pawl('node', 'show', name), { state: 'ready', session: { state: 'ready' } })
    t.match(await site.pawl('node', 'auto-approve', 'show', 'rack1'), {
      state: 'used-up',
      made: [{ serial, node: name }],
    })
    t.match(await eventsOf(site, '--node', name, '--kind', 'machine-auto-approved'), [
      { detail: { rule: 'rack1', facts: { serial } } },
    ])
  },
)
