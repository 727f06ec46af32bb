import t from 'tap'
import type { ruleRefusals } from '../../src/domain/auto-approval.ts'
import { enrolArrival, serveArrival } from '../../src/fleet/arrivals.ts'
import {
  createAutoApproval,
  listAutoApprovals,
  listRuleSerials,
  type NewAutoApproval,
  removeAutoApproval,
  revokeAutoApproval,
  showAutoApproval,
} from '../../src/fleet/auto-approvals.ts'
import { listPending } from '../../src/fleet/enrolment.ts'
import { showNode } from '../../src/fleet/node-view.ts'
import { addNode } from '../../src/fleet/nodes.ts'
import { issueSecret } from '../../src/fleet/secrets.ts'
import { demoProfile, nodeRow, storeDemoFleet, storeProfile } from '../helpers/fleet.ts'
import { askStage1 } from '../helpers/machine.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

const kubeadm = {
  kind: 'kubeadm',
  settings: {
    endpoint: '10.0.0.1:6443',
    token: 'abcdef.0123456789abcdef',
    caCertHash: `sha256:${'a'.repeat(64)}`,
  },
}

const rule: NewAutoApproval = {
  name: 'rack1',
  sources: ['192.0.2.0/24'],
  serials: ['SN1', 'SN2'],
  profile: 'demo',
  nodeName: 'rack1-{serial}',
  labels: { rack: 'r1' },
  forSeconds: 3600,
}

interface Machine {
  readonly facts: Readonly<Record<string, string>>
  readonly source: string
  claim: string
}

/** The machine number `n`, with serial number `SNn`. */
const machine = (n: number, wish: Partial<Machine> = {}): Machine => ({
  facts: { serial: `SN${n}`, mac: `52-54-00-00-01-${n.toString(16).padStart(2, '0')}`, manufacturer: 'ACME' },
  source: '192.0.2.77',
  claim: '',
  ...wish,
})

const requestOf = ({ facts, source, claim }: Machine) => ({
  host: undefined,
  source,
  request: 'stage1',
  fields: { ...facts, claim },
})

/** Asks as a machine without a name does; returns the template that answered, and keeps the claim. */
async function ask(world: World, from: Machine, serve = serveArrival): Promise<string> {
  const body = await serve(world.context, requestOf(from))
  const at = body.indexOf(' ')
  const { claim } = JSON.parse(body.slice(at)) as { claim?: string }
  if (claim !== undefined && claim !== '') from.claim = claim
  return body.slice(0, at)
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('refuses rules that say too much, too little or nothing', async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeDemoFleet(world)
    await storeProfile(world, { ...demoProfile, name: 'kube', boot: { ...demoProfile.boot, join: kubeadm } })
    await storeProfile(world, {
      ...demoProfile,
      name: 'kubenew',
      reinstall: { ...demoProfile.reinstall, join: kubeadm },
    })
    const table: [string, Partial<NewAutoApproval>, object][] = [
      ['a name', { name: 'Rack 1' }, { code: 'invalid', message: /rule name/ }],
      ['no prefix', { sources: [] }, { code: 'invalid', message: /needs a prefix/ }],
      ['everywhere', { sources: ['0.0.0.0/0'] }, { code: 'invalid', message: /says next to nothing/ }],
      ['half of IPv6', { sources: ['::/1'] }, { code: 'invalid', message: /says next to nothing/ }],
      ['no address', { sources: ['here'] }, { code: 'invalid' }],
      ['no serial', { serials: [] }, { code: 'invalid', message: /needs a serial/ }],
      [
        'a serial that is none',
        { serials: ['To be filled by O.E.M.'] },
        { code: 'invalid', message: /none/ },
      ],
      ['a serial that is not text', { serials: ['a\nb'] }, { code: 'invalid' }],
      [
        '10,001 serials',
        { serials: Array.from({ length: 10_001 }, (_, i) => `S${i}`) },
        { code: 'invalid', message: /10001 serial numbers are above the limit of 10000/ },
      ],
      [
        'one name for two',
        { serials: ['A/1', 'a-1'] },
        { code: 'invalid', message: /make one name, "rack1-a-1"/ },
      ],
      ['no machine in the name', { nodeName: 'rack1' }, { code: 'invalid', message: /has none of/ }],
      ['another thing in the name', { nodeName: '{asset}' }, { code: 'invalid', message: /\{asset\}/ }],
      ['no host name', { nodeName: 'Rack_{serial}' }, { code: 'invalid' }],
      ['a serial that makes no name', { serials: ['!!'], nodeName: '{serial}' }, { code: 'invalid' }],
      ['no end', { forSeconds: undefined as never }, { code: 'invalid', message: /exactly one of/ }],
      ['two ends', { until: '2026-11-21T07:00:00.000Z' }, { code: 'invalid', message: /exactly one of/ }],
      ['the past', { forSeconds: -1 }, { code: 'invalid', message: /in the future/ }],
      ['eight days', { forSeconds: 8 * 86_400 }, { code: 'invalid', message: /within 7 days/ }],
      ['no time', { forSeconds: undefined as never, until: 'soon' }, { code: 'invalid' }],
      ['no limit', { limit: 0 }, { code: 'invalid', message: /1 to 2/ }],
      ['above its serials', { limit: 3 }, { code: 'invalid', message: /1 to 2/ }],
      ['a label', { labels: { 'a b': 'c' } }, { code: 'invalid' }],
      ['no profile', { profile: 'nope' }, { code: 'not-found', message: /profile "nope"/ }],
      ['a profile with credentials', { profile: 'kube' }, { code: 'conflict', hint: /acceptAutoApproved/ }],
      [
        'credentials of a reinstall',
        { profile: 'kubenew' },
        { code: 'conflict', hint: /acceptAutoApproved/ },
      ],
    ]
    for (const [what, wish, error] of table)
      t.match(await errorOf(createAutoApproval(context, ann, { ...rule, ...wish })), error, what)
    await createAutoApproval(context, ann, rule)
    t.match(await errorOf(createAutoApproval(context, ann, rule)), { code: 'exists' })
    t.match(await errorOf(revokeAutoApproval(context, ann, 'nope')), { code: 'not-found' })
    t.match(await errorOf(removeAutoApproval(context, ann, 'rack1')), {
      code: 'conflict',
      message: /is live/,
    })
    await addNode(context, ann, { name: 'old', serial: 'SN9' })
    const { warnings } = await createAutoApproval(context, ann, { ...rule, name: 'rack2', serials: ['SN9'] })
    t.match(warnings, [/nodes have these serial numbers already.*: SN9 \(old\)/])
    t.equal((await world.kinds({ kind: 'auto-approval-created' })).length, 2)
  })

  await t.test('a machine from the prefix with an unused serial boots as a node by itself', async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeDemoFleet(world)
    await createAutoApproval(context, ann, rule)
    const one = machine(1)
    t.equal(await ask(world, one), 'approved.ipxe')
    t.match(one.claim, /^[0-9a-f]{48}$/)
    t.equal(await ask(world, one), 'stage1.ipxe')
    t.match(await showNode(context.storage.db, 'rack1-sn1'), {
      state: 'booting',
      profile: 'demo',
      serial: 'SN1',
      macs: ['52:54:00:00:01:01'],
      labels: { rack: 'r1' },
      addresses: [],
    })
    t.match(await world.events({ kind: 'machine-auto-approved' }), [
      {
        node: 'rack1-sn1',
        actor: 'server',
        source: '192.0.2.77',
        detail: { rule: 'rack1', machine: '192.0.2.77', facts: { serial: 'SN1', manufacturer: 'ACME' } },
      },
    ])
    t.same(await listPending(context), [])
    t.match(await showAutoApproval(context, 'rack1'), { state: 'live', serials: 2, used: 1, limit: 2 })
    t.match(await listRuleSerials(context, 'rack1', { limit: 1 }), {
      items: [{ serial: 'SN1', node: 'rack1-sn1', source: '192.0.2.77' }],
      next: 'SN1',
    })
    t.match(await listRuleSerials(context, 'rack1', { limit: 1, after: 'SN1' }), {
      items: [{ serial: 'SN2', node: null, usedAt: null }],
      next: null,
    })
    const waiting = machine(2, { source: '198.51.100.1' })
    t.equal(await ask(world, waiting), 'pending.ipxe')
    t.equal(await ask(world, { ...waiting, source: '192.0.2.78' }), 'approved.ipxe')
    t.match(await showAutoApproval(context, 'rack1'), { state: 'used-up', used: 2 })
    await removeAutoApproval(context, ann, 'rack1')
    t.same(await listAutoApprovals(context), [])
    t.match(await showNode(context.storage.db, 'rack1-sn2'), { serial: 'SN2' })
  })

  await t.test(
    'every reason why a rule does not approve: the machine waits, and one event says why',
    async (t) => {
      const table: Record<
        keyof typeof ruleRefusals,
        (world: World) => Promise<Partial<Machine> | undefined>
      > = {
        'outside-prefix': async () => ({ source: '198.51.100.1' }),
        'serial-used': async (world) => {
          await ask(world, machine(1))
          // The node it made is gone, its serial number stays used.
          await world.context.storage.db.deleteFrom('nodes').where('name', '=', 'rack1-sn1').execute()
          return { facts: { serial: 'SN1', mac: '52-54-00-00-02-01' } }
        },
        'rule-over': async ({ clock }) => {
          clock.advance(3600)
          return undefined
        },
        'limit-reached': async (world) => {
          await ask(world, machine(2))
          return undefined
        },
        'profile-gone': async ({ context }) => {
          await context.storage.db.updateTable('auto_approvals').set({ profile: 'gone' }).execute()
          return undefined
        },
        'profile-refuses': async (world) => {
          await storeProfile(world, { ...demoProfile, boot: { ...demoProfile.boot, join: kubeadm } })
          return undefined
        },
        'node-known': async () => undefined,
        'name-taken': async ({ context }) => {
          await addNode(context, ann, { name: 'rack1-sn1' })
          return undefined
        },
        'name-unfit': async ({ context }) => {
          await context.storage.db.updateTable('auto_approvals').set({ node_name: '{uuid}' }).execute()
          return undefined
        },
      }
      for (const [cause, prepare] of Object.entries(table)) {
        const world = await openWorld()
        const { context } = world
        await storeDemoFleet(world)
        await createAutoApproval(context, ann, { ...rule, limit: 1 })
        const wish = await prepare(world)
        const one = machine(1, wish)
        // Stage 1 sends a known machine to its node: only one that arrives at this moment comes so far.
        if (cause === 'node-known')
          await addNode(context, ann, { name: 'other', macs: [one.facts.mac ?? ''] })
        const serve = cause === 'node-known' ? enrolArrival : serveArrival
        for (let times = 0; times < 3; times += 1) {
          t.equal(await ask(world, one, serve), 'pending.ipxe', cause)
          world.clock.advance(30)
        }
        t.match(await listPending(context), [{ notByRule: cause }], cause)
        t.match(await world.events({ kind: 'auto-approval-refused' }), [
          { node: null, source: one.source, detail: { cause, facts: { serial: 'SN1' } } },
        ])
      }
    },
  )

  await t.test(
    'revoked, it approves nobody; a profile may say that rules may hand out its credentials',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      await storeDemoFleet(world)
      const boot = { ...demoProfile.boot, join: kubeadm }
      await storeProfile(world, { ...demoProfile, name: 'kube', boot, acceptAutoApproved: true })
      await createAutoApproval(context, ann, { ...rule, profile: 'kube' })
      t.equal(await ask(world, machine(1)), 'approved.ipxe')
      t.match(await revokeAutoApproval(context, ann, 'rack1'), {
        state: 'revoked',
        revokedBy: 'operator:ann',
      })
      t.match(await errorOf(revokeAutoApproval(context, ann, 'rack1')), { code: 'conflict' })
      t.equal(await ask(world, machine(2)), 'pending.ipxe')
      t.match(await listPending(context), [{ notByRule: 'rule-over' }])
      t.equal(await ask(world, machine(3)), 'pending.ipxe', 'a serial that no rule has')
      t.equal((await world.kinds({ kind: 'auto-approval-refused' })).length, 1)
    },
  )

  await t.test(
    'a profile that comes to hand out credentials gives them to no machine that a rule approved',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      await storeDemoFleet(world)
      await createAutoApproval(context, ann, rule)
      const one = machine(1)
      const causes = async (): Promise<unknown[]> =>
        (await world.events({ kind: 'refused' })).map(({ detail }) => detail.cause)
      t.equal(await ask(world, one), 'approved.ipxe')
      const boot = { ...demoProfile.boot, join: kubeadm }
      await storeProfile(world, { ...demoProfile, boot })
      t.match(await errorOf(ask(world, one)), { code: 'refused' })
      t.same(await causes(), ['approved-by-rule'])
      const name = 'rack1-sn1'
      const { secret } = await issueSecret(context, ann, name)
      t.match((await world.events({ kind: 'secret-issued' })).at(-1)?.detail, { confirms: true })
      t.match(await errorOf(ask(world, one)), { code: 'refused' })
      t.same(await causes(), ['approved-by-rule', 'wrong-claim'], 'its claim is no proof any more')
      await askStage1(world, { host: name, source: one.source, fields: { ...one.facts, secret } })
      t.equal((await nodeRow(world, name)).state, 'booting', 'the secret that an operator brought to it is')
    },
  )

  await t.test('of twenty machines that tell one serial number at once, one is approved', async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeDemoFleet(world)
    await createAutoApproval(context, ann, rule)
    const racing = Array.from({ length: 20 }, (_, n) =>
      machine(n, { facts: { serial: 'SN1', mac: `52-54-00-00-03-${n.toString(16).padStart(2, '0')}` } }),
    )
    const answers = await Promise.all(racing.map((one) => ask(world, one, enrolArrival)))
    t.equal(answers.filter((answer) => answer === 'approved.ipxe').length, 1)
    t.equal((await listPending(context)).length, 19)
    t.ok((await listPending(context)).every(({ notByRule }) => notByRule === 'serial-used'))
    t.equal((await world.events({ kind: 'machine-auto-approved' })).length, 1)
    const refused = await world.events({ kind: 'auto-approval-refused' })
    t.match(refused[0]?.detail, { cause: 'serial-used', facts: { serial: 'SN1' } })
    t.match(await showAutoApproval(context, 'rack1'), { used: 1 })
    const again = await Promise.all(racing.map((one) => ask(world, one).catch(() => 'refused')))
    t.equal(again.filter((answer) => answer === 'stage1.ipxe').length, 1, 'the one with the claim boots')
  })

  await t.test('ten thousand serial numbers', async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeDemoFleet(world)
    const serials = Array.from({ length: 10_000 }, (_, i) => `CZ${String(i).padStart(6, '0')}`)
    await createAutoApproval(context, ann, { ...rule, serials })
    t.equal(
      await ask(world, machine(1, { facts: { serial: 'CZ009999', mac: '52-54-00-00-09-01' } })),
      'approved.ipxe',
    )
    t.match(await listRuleSerials(context, 'rack1', { limit: 10, used: true }), {
      items: [{ serial: 'CZ009999', node: 'rack1-cz009999' }],
      next: null,
    })
  })
})
