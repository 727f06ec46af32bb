import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { enrol } from '../../src/boot/enrol.ts'
import { serveArrival } from '../../src/fleet/arrivals.ts'
import { fanOut } from '../../src/webhooks/fan-out.ts'
import { demoProfile, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { efiIpxe, lkrnIpxe } from '../helpers/ipxe.ts'
import { askStage1, boot, facts, machineOf, report, type Until } from '../helpers/machine.ts'
import { forEachDatabase } from '../helpers/world.ts'
import { type Installation, openInstallation, temporaryFolder } from './helpers/installation.ts'
import { runScenario, type Scenario } from './helpers/scenario.ts'

/**
 * Each file is one scenario. With PAWL_UPDATE=scenarios they are written as they go, for a reader to judge; with
 * PAWL_UPDATE=scenarios:11 the one whose name begins with that.
 */
const folder = join(import.meta.dirname, 'scenarios')
const [what, only = ''] = (process.env.PAWL_UPDATE ?? '').split(':')
const update = what === 'scenarios'

await forEachDatabase(t, async (t, openWorld) => {
  if (t.name === 'on PostgreSQL') {
    t.pass('the command line does not see which database it is')
    return
  }
  const files = readdirSync(folder).filter((file) => !update || file.startsWith(only))
  for (const file of files.sort()) {
    await t.test(file, async (t) => {
      const installation = await openInstallation(t, openWorld)
      const text = readFileSync(join(folder, file), 'utf8')
      const learnt = new Map<string, string>()
      const went = await runScenario(
        { installation, temporary: temporaryFolder(t), learnt, actions: actionsOf(installation, learnt) },
        text,
      )
      if (update) writeFileSync(join(folder, file), went)
      else t.equal(went, text)
    })
  }
})

/** What can happen between commands. */
function actionsOf(installation: Installation, learnt: Scenario['learnt']): Scenario['actions'] {
  const { world } = installation
  const { db } = world.context.storage
  let secret = ''
  let booted: Awaited<ReturnType<typeof boot>> | undefined
  return {
    'the demo fleet is there': async () => {
      secret = await storeDemoFleet(world)
    },
    'the demo profile follows full/stable': () =>
      storeProfile(world, { ...demoProfile, boot: { stage2: 'small@1', stage3: 'full/stable' } }),
    'the demo profile is there': () => storeProfile(world, demoProfile),
    'a node is there': async (name) => {
      await storeNode(world, { name, addresses: [{ address: '192.0.2.10', prefixLength: 32 }] })
    },
    'a certificate is there': async (text) => {
      const [node = '', fingerprint = '', expired] = text.split(' ')
      const at = world.clock.now().toISOString()
      const row = {
        fingerprint: fingerprint.padEnd(64, '0'),
        node: `id-${node}`,
        key_type: 'RSA 2048',
        issued_at: at,
        issued_by: 'operator:admin',
        expires_at: expired === undefined ? '2027-11-21T06:00:00.000Z' : at,
        revoked_at: null,
        revoked_by: null,
        last_used_at: expired === undefined ? at : null,
        last_used_from: expired === undefined ? '192.0.2.10' : null,
      }
      await db.insertInto('node_certificates').values(row).execute()
    },
    'a build of iPXE is at': async (text) => {
      const [file = '', kind] = text.split(' ')
      const old = { words: ['iPXE\0\0\x001.0.0+git-20190125'], roots: [] }
      const kinds = { bios: lkrnIpxe(), old: efiIpxe(old), signed: efiIpxe({ signed: true }) }
      writeFileSync(file, kind === undefined ? efiIpxe() : kinds[kind as keyof typeof kinds]) // the scenario names one
    },
    'node1 boots until': async (until) => {
      booted = await boot(world, machineOf(secret), until as Until) // the scenario names a step
      learnt.set('$SESSION', booted.session)
    },
    'node1 reports': async (message) => {
      await report(world, machineOf(secret), booted?.report, message)
    },
    'node1 reports at last': async (message) => {
      await report(world, machineOf(secret), booted?.report, message, { final: true })
    },
    'a machine asks as node1 with a wrong secret': async () => {
      await askStage1(world, machineOf('wrong')).catch(() => {})
      await world.context.refusals.flush()
    },
    'an unknown machine asks with serial': async (serial) => {
      const asked = { host: undefined, source: '192.0.2.77', request: 'enrol' }
      const script = await enrol(world.context, { ...asked, fields: { ...facts, serial } })
      learnt.set('$CODE', /"code":"([^"]+)"/.exec(script)?.[1] ?? '')
      await world.context.refusals.flush()
    },
    'an unknown machine arrives with serial': async (text) => {
      const [serial = '', elsewhere] = text.split(' from ')
      const source = elsewhere === undefined ? '192.0.2.77' : '198.51.100.7'
      const asked = { host: undefined, source, request: 'stage1' }
      const mac = elsewhere === undefined ? '52-54-00-12-34-57' : '52-54-00-12-34-58'
      const script = await serveArrival(world.context, { ...asked, fields: { serial, mac, claim: '' } })
      learnt.set('$CODE', /"code":"([^"]+)"/.exec(script)?.[1] ?? '$CODE')
      await world.context.refusals.flush()
    },
    'node1 asks with serial': async (serial) => {
      await askStage1(world, machineOf(secret, { fields: { ...facts, secret, serial } })).catch(() => {})
    },
    'the label of node1 becomes': async (value) => {
      const labels = JSON.stringify({ site: value })
      await db.updateTable('nodes').set({ labels, serial: value }).where('name', '=', 'node1').execute()
    },
    'the first event of node1 is edited': async () => {
      const where = { chain: 'node/node1', seq: 1 }
      await db
        .updateTable('events')
        .set({ actor: 'operator:nobody' })
        .where('chain', '=', where.chain)
        .where('seq', '=', where.seq)
        .execute()
    },
    'a delivery is made, and becomes': async (state) => {
      await fanOut(world.context)
      const [one] = await db
        .selectFrom('webhook_deliveries')
        .selectAll()
        .where('result', 'is', null)
        .execute()
      learnt.set('$DELIVERY', one?.id ?? '')
      const ended = state === 'waiting' ? {} : { next_at: null, ended_at: world.clock.now().toISOString() }
      await db
        .updateTable('webhook_deliveries')
        .set({ state: state as 'dead', tries: 11, result: state === 'dead' ? '502' : '204', ...ended })
        .where('id', '=', one?.id ?? '')
        .execute()
    },
    'the latest reinstall is known': async () => {
      const row = await db
        .selectFrom('campaigns')
        .select('id')
        .orderBy('started_at', 'desc')
        .executeTakeFirst()
      learnt.set('$REINSTALL', row?.id ?? '')
    },
    'seconds pass:': async (seconds) => world.clock.advance(Number(seconds)),
    'the server stops': () => installation.stop(),
  }
}
