import t from 'tap'
import { type SeedRequest, serveSeed } from '../../src/boot/serve-seed.ts'
import { Refusal } from '../../src/domain/refusal.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { publishImage, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import {
  askHandover,
  askStage,
  askStage1,
  boot,
  type Machine,
  machineOf,
  report,
} from '../helpers/machine.ts'
import { ann, root } from '../helpers/operators.ts'
import { forEachDatabase, testEntry, type World } from '../helpers/world.ts'

const userData =
  '#cloud-config\nhostname: "{{ host }}"\nruncmd:\n  - [echo, "{{ session }} {{ profile }} {{ sequence }}"]\n'
const config =
  '{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"/etc/of","contents":{"source":"data:,{{ host }}"}}]}}'

function joining(join: Record<string, unknown>): { name: string } & Record<string, unknown> {
  return { name: 'demo', evidence: ['secret'], boot: { stage2: 'small@1', stage3: 'full@1', join } }
}

const cloudInit = (settings: Record<string, unknown> = { userData }): Record<string, unknown> => ({
  kind: 'cloud-init',
  settings,
})
const ignition = { kind: 'ignition', settings: { config } }

/** What a join script of the plain templates was given. */
function given(script: string): Record<string, string> {
  return JSON.parse(script.slice(script.indexOf('{')))
}

/** The token in a seed URL. */
function tokenIn(url: string): string {
  return url.split('/').at(-2) ?? ''
}

function ask(world: World, wish: Partial<SeedRequest>): Promise<string> {
  const usual = {
    host: 'node1',
    source: '192.0.2.10',
    request: 'nocloud',
    of: 'nocloud',
    file: 'user-data',
  } as const
  return serveSeed(world.context, { ...usual, token: '', ...wish })
}

/** The cause that it was refused with, as the event says it too. */
async function causeOf(world: World, work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (error === undefined) return 'not refused'
  if (!(error instanceof Refusal)) throw error
  const last = (await world.events({ kind: 'refused' })).at(-1)
  return last?.detail.cause === error.why ? error.why : `${error.why}, but the log says ${last?.detail.cause}`
}

await forEachDatabase(t, async (t, openWorld) => {
  async function open(join: Record<string, unknown>): Promise<{ world: World; machine: Machine }> {
    const world = await openWorld({ settings: { loopStage1s: 0 } })
    const secret = await storeDemoFleet(world)
    await storeProfile(world, joining(join))
    return { world, machine: machineOf(secret) }
  }

  await t.test('refuses every wrong seed token by its own cause, and serves nothing', async (t) => {
    const { world, machine } = await open(cloudInit())
    await storeNode(world, { name: 'node2' })
    const learnt = await boot(world, machine, 'join')
    const token = tokenIn(given(learnt.script).seedUrl ?? '')
    const other = token.slice(0, 40) + (token.endsWith('AAAA') ? 'BBBB' : 'AAAA')
    const table: [string, Partial<SeedRequest>, string][] = [
      ['none', { token: '' }, 'malformed-token'],
      ['one of another form', { token: 'x' }, 'malformed-token'],
      ['one that was never issued', { token: 'A'.repeat(44) }, 'unknown-token'],
      ['its name with another secret', { token: other }, 'wrong-token-secret'],
      ["another node's", { token, host: 'node2' }, 'foreign-token'],
      ['for another kind', { token, of: 'ignition', file: 'config' }, 'wrong-order'],
      ['for a file that there is none of', { token, file: '../passwd' }, 'malformed'],
      ['for a name that every object has', { token, file: 'constructor' }, 'malformed'],
      ['the join token', { token: learnt.join }, 'unknown-token'],
      ['the report token', { token: learnt.report }, 'unknown-token'],
    ]
    for (const [what, wish, cause] of table) t.equal(await causeOf(world, ask(world, wish)), cause, what)
    t.same(await world.kinds({ kind: 'seed-served' }), [])
    t.match(await ask(world, { token }), /^#cloud-config\n/)
    t.equal(
      await causeOf(world, askStage(world, machine, 'join', token)),
      'unknown-token',
      'a seed token redeems nothing',
    )
  })

  await t.test(
    'serves each file with the values of the node and the session, and is asked again',
    async (t) => {
      const { world, machine } = await open(
        cloudInit({
          userData,
          vendorData:
            '#cloud-config\n{% if labels.rack %}fqdn: "{{ labels.rack }}.{{ host }}"{% else %}x: 1{% endif %}\n',
          networkConfig: 'network:\n  version: 2\n  ethernets: {eth1: {dhcp4: true}}\n',
        }),
      )
      await world.context.storage.db.updateTable('nodes').set({ labels: '{"rack":"r7"}' }).execute()
      const { session, script } = await boot(world, machine, 'join')
      const { seedUrl = '', ca = '', network = '' } = given(script)
      t.match(seedUrl, /^https:\/\/boot\.example\.test:8443\/v1\/boot\/node1\/[A-Za-z0-9_-]{44}\/nocloud$/)
      t.equal(Buffer.from(ca, 'base64').toString(), testEntry.ca)
      t.equal(
        Buffer.from(network, 'base64').toString(),
        '{"network":{"version":2,"ethernets":{"eth1":{"dhcp4":true}}}}\n',
      )
      const token = tokenIn(seedUrl)
      t.equal(
        await ask(world, { token }),
        `#cloud-config\nhostname: "node1"\nruncmd:\n  - [echo, "${session} demo boot"]\n`,
      )
      t.equal(await ask(world, { token, file: 'vendor-data' }), '#cloud-config\nfqdn: "r7.node1"\n')
      t.match(await ask(world, { token, file: 'network-config' }), /^network:/)
      const meta = JSON.parse(await ask(world, { token, file: 'meta-data' }))
      t.same(meta, {
        'instance-id': session,
        'local-hostname': 'node1',
        pawl: { profile: 'demo', sequence: 'boot', labels: { rack: 'r7' } },
      })
      for (let again = 0; again < 15; again += 1) await ask(world, { token })
      t.equal(await causeOf(world, ask(world, { token })), 'asked-too-often', 'a seventeenth time')
      t.match(await ask(world, { token, file: 'meta-data' }), /instance-id/, 'of that file alone')
      const served = await world.events({ kind: 'seed-served' })
      t.same(
        served.map(({ detail }) => detail.file),
        ['user-data', 'vendor-data', 'network-config', 'meta-data'],
        'the first time of each is an event',
      )
      t.notMatch(JSON.stringify(await world.events()), token)
      t.notMatch(await world.dump(), token.slice(12), 'only its hash is stored')
    },
  )

  await t.test('what is not set is an empty file', async (t) => {
    const { world, machine } = await open(cloudInit())
    const { script } = await boot(world, machine, 'join')
    const token = tokenIn(given(script).seedUrl ?? '')
    t.equal(given(script).network, '')
    t.equal(await ask(world, { token, file: 'vendor-data' }), '')
    t.equal(await ask(world, { token, file: 'network-config' }), '')
  })

  await t.test('a seed token ends with the report, the next boot, a failure and by itself', async (t) => {
    const { world, machine } = await open(cloudInit())
    const first = await boot(world, machine)
    t.equal(
      await causeOf(world, ask(world, { token: tokenIn(given(first.script).seedUrl ?? '') })),
      'session-ended',
    )
    const second = await boot(world, machine, 'join')
    await boot(world, machine, 'stage1')
    t.equal(
      await causeOf(world, ask(world, { token: tokenIn(given(second.script).seedUrl ?? '') })),
      'session-ended',
    )
    world.clock.advance(60)
    const third = await boot(world, machine, 'join')
    world.clock.advance(1799)
    const token = tokenIn(given(third.script).seedUrl ?? '')
    t.match(await ask(world, { token }), /cloud-config/)
    world.clock.advance(1)
    t.equal(await causeOf(world, ask(world, { token })), 'expired-token', 'after half an hour')
    const failed = await boot(world, machine, 'join')
    await report(world, machine, failed.report, 'error: no', { final: true })
    t.equal(
      await causeOf(world, ask(world, { token: tokenIn(given(failed.script).seedUrl ?? '') })),
      'session-ended',
    )
  })

  await t.test('a node that lacks a label its document needs is refused at stage 1, in words', async (t) => {
    const { world, machine } = await open(
      cloudInit({ userData: '#cloud-config\nfqdn: "{{ labels.rack }}"\n' }),
    )
    t.equal(await causeOf(world, askStage1(world, machine)), 'does-not-fit')
    const [refused] = await world.events({ kind: 'refused' })
    t.match(refused?.detail.reason, /^join: settings\.userData undefined variable: labels\.rack/)
    await world.context.storage.db.updateTable('nodes').set({ labels: '{"rack":"r7"}' }).execute()
    const learnt = await boot(world, machine, 'stage3')
    await world.context.storage.db.updateTable('nodes').set({ labels: '{}' }).execute()
    t.equal(await causeOf(world, askStage(world, machine, 'join', learnt.join)), 'does-not-fit')
    await world.context.storage.db.updateTable('nodes').set({ labels: '{"rack":"r7"}' }).execute()
    t.ok((await askStage(world, machine, 'join', learnt.join)).text, 'the join token was not spent')
  })

  await t.test('so is one whose script or overlay needs a label that it lacks', async (t) => {
    const peer = { publicKey: 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=', allowedIps: ['10.8.0.0/24'] }
    const overlay = { kind: 'wireguard', addressLabel: 'rack', peers: [peer] }
    const table: [Record<string, unknown>, RegExp][] = [
      [
        { kind: 'script', settings: { script: '#!/bin/sh\necho {{ labels.rack }}\n' } },
        /^join: settings\.script undefined variable: labels\.rack/,
      ],
      [{ kind: 'none', overlay }, /^join\.overlay: .* label "rack", and it has no such label$/],
      [{ kind: 'nomad', settings: { servers: ['n1'] }, overlay }, /label "rack"/],
    ]
    for (const [join, reason] of table) {
      const { world, machine } = await open(join)
      const label = (labels: string): Promise<unknown> =>
        world.context.storage.db.updateTable('nodes').set({ labels }).execute()
      t.equal(await causeOf(world, askStage1(world, machine)), 'does-not-fit')
      t.match((await world.events({ kind: 'refused' })).at(-1)?.detail.reason, reason)
      await label('{"rack":"10.8.0.7"}')
      const learnt = await boot(world, machine, 'stage3')
      await label('{}')
      t.equal(await causeOf(world, askStage(world, machine, 'join', learnt.join)), 'does-not-fit')
      const [refused] = (await world.events({ kind: 'refused' })).slice(-1)
      t.match(refused?.detail.reason, reason, 'a label that went in the middle of the boot')
      t.ok(refused?.session, "and it stands in the boot's timeline")
      await label('{"rack":"10.8.0.7"}')
      t.ok((await askStage(world, machine, 'join', learnt.join)).text, 'the join token was not spent')
    }
  })

  await t.test(
    'secret user data is sealed, shown as ***, and only in the file that the node fetches',
    async (t) => {
      const world = await openWorld()
      const secret = await storeDemoFleet(world)
      await publishImage(world, 'other@1', 'd')
      const secretUserData = '#cloud-config\npassword: hunter-two-{{ host }}\n'
      const applied = await applyProfile(world.context, root, 'demo', joining(cloudInit({ secretUserData })))
      t.match(JSON.stringify(applied.profile), '"secretUserData":"***"')
      const again = await applyProfile(
        world.context,
        ann,
        'demo',
        joining(cloudInit({ secretUserData: '***' })),
      )
      t.equal(again.revision, applied.revision, '*** keeps what is stored')
      const { script } = await boot(world, machineOf(secret), 'join')
      t.match(
        await ask(world, { token: tokenIn(given(script).seedUrl ?? '') }),
        '#cloud-config\npassword: hunter-two-node1\n',
      )
      t.notMatch(script, 'hunter-two')
      t.notMatch(await world.dump(), 'hunter-two')
    },
  )

  await t.test("Ignition's URL is on the full kernel's command line, and good until stage 3", async (t) => {
    const { world, machine } = await open(ignition)
    const learnt = await boot(world, machine, 'handover')
    const { document, token: stage3 } = await askStage(world, machine, 'stage2', learnt.stage2)
    const args = String(document.args)
    t.match(
      args,
      /^console=ttyS0 ignition\.config\.url=https:\/\/boot\.example\.test:8443\/v1\/boot\/node1\/[\w-]{44}\/ignition$/,
    )
    const early = tokenIn(args.split('=').at(-1) ?? '')
    const file = { of: 'ignition', file: 'config' } as const
    const rendered =
      '{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"/etc/of","contents":{"source":"data:,node1"}}]}}'
    t.equal(await ask(world, { token: early, ...file }), rendered)
    const { token: join } = await askStage(world, machine, 'stage3', stage3)
    t.equal(
      await causeOf(world, ask(world, { token: early, ...file })),
      'retired-token',
      'whoever reads /proc/cmdline gets nothing',
    )
    const { document: joined } = await askStage(world, machine, 'join', join)
    const late = tokenIn(given(String(joined.script)).seedUrl ?? '')
    t.equal(await ask(world, { token: late, ...file }), rendered, 'the join script has a URL of its own')
    t.equal(await causeOf(world, ask(world, { token: early, ...file })), 'retired-token')
    await report(world, machine, learnt.report, 'success')
    t.equal(await causeOf(world, ask(world, { token: late, ...file })), 'session-ended')
  })

  await t.test('refuses at stage 1 a command line that has no room for the URL', async (t) => {
    const { world, machine } = await open(ignition)
    await storeProfile(world, { ...joining(ignition), kernelArguments: `a=${'b'.repeat(1000)}` })
    const fits = await causeOf(world, askStage1(world, machine))
    t.equal(fits, 'not refused')
    // Its own 2000 bytes are still a command line; with the URL they are none.
    const { db } = world.context.storage
    const { manifest } = await db
      .selectFrom('images')
      .select('manifest')
      .where('name', '=', 'full')
      .executeTakeFirstOrThrow()
    const long = manifest.replace('console=ttyS0', `console=ttyS0 c=${'d'.repeat(980)}`)
    await db.updateTable('images').set({ manifest: long }).where('name', '=', 'full').execute()
    t.equal(await causeOf(world, askStage1(world, machine)), 'does-not-fit')
  })

  await t.test('other joins have no seed', async (t) => {
    const { world, machine } = await open({ kind: 'none' })
    const learnt = await boot(world, machine, 'handover')
    await askHandover(world, machine, learnt.handoverToken).catch(() => undefined)
    const { document } = await askStage(world, machine, 'stage2', learnt.stage2)
    t.equal(document.args, 'console=ttyS0')
    t.same(await world.context.storage.db.selectFrom('join_seeds').selectAll().execute(), [])
  })
})
