import t from 'tap'
import { enrol } from '../../src/boot/enrol.ts'
import { serveStage1 } from '../../src/boot/serve-stage1.ts'
import { approveMachine, listPending, rejectMachine } from '../../src/fleet/enrolment.ts'
import { disableNode, enableNode } from '../../src/fleet/nodes.ts'
import { issueSecret, revokeSecret } from '../../src/fleet/secrets.ts'
import { demoProfile, storeDemoFleet, storeProfile } from '../helpers/fleet.ts'
import { askHandover, askStage } from '../helpers/machine.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

/** A machine whose media names no node, with a site script that can send a claim. */
interface Nameless {
  readonly facts: Readonly<Record<string, string>>
  readonly source: string
  claim: string
}

const nameless = (wish: Partial<Nameless> = {}): Nameless => ({
  facts: { uuid: '22222222-2222-3333-4444-555555555555', mac: '52-54-00-00-00-07', serial: 'SN7' },
  source: '192.0.2.77',
  claim: '',
  ...wish,
})

/** Asks as `autoexec.ipxe` does; the claim that a script sets is kept. */
async function ask(
  world: World,
  machine: Nameless,
): Promise<{ template: string; values: Record<string, string> }> {
  const { facts, source, claim } = machine
  const request = { host: undefined, source, request: 'stage1', fields: { ...facts, claim } }
  const stage1 = await serveStage1(world.context, { ...request, format: 'ipxe' })
  const body = stage1?.body ?? (await enrol(world.context, request))
  const at = body.indexOf(' ')
  const values = JSON.parse(body.slice(at)) as Record<string, string>
  if (values.claim !== undefined && values.claim !== '') machine.claim = values.claim
  return { template: body.slice(0, at), values }
}

async function refusalOf(world: World, machine: Nameless): Promise<unknown> {
  t.equal((await errorOf(ask(world, machine))).code, 'refused')
  return (await world.events({ kind: 'refused' })).at(-1)?.detail.cause
}

const approval = { name: 'new1', profile: 'demo' }

await forEachDatabase(t, async (t, openWorld) => {
  await t.test("refuses a claim that is not the approved machine's own", async (t) => {
    const world = await openWorld()
    const { context } = world
    await storeDemoFleet(world)
    const machine = nameless()
    const { values } = await ask(world, machine)
    const forger = nameless()
    const forged = await ask(world, forger)
    t.not(forged.values.code, values.code, 'who tells the same from the same address has another code')
    t.not(forger.claim, machine.claim)
    await approveMachine(context, ann, String(values.code), approval)
    const wrong: [string, Partial<Nameless>][] = [
      ['another claim of the same facts and address', { claim: forger.claim }],
      ['a made-up claim', { claim: '0'.repeat(48) }],
      ['the claim from another address', { claim: machine.claim, source: '192.0.2.78' }],
      [
        'the claim with other facts',
        { claim: machine.claim, facts: { ...machine.facts, mac: '52-54-00-00-00-08' } },
      ],
    ]
    for (const [what, wish] of wrong) t.equal(await refusalOf(world, nameless(wish)), 'wrong-claim', what)
    t.equal(await refusalOf(world, nameless()), 'no-secret', 'no claim at all')
    t.equal(await refusalOf(world, nameless({ claim: 'short' })), 'no-secret', 'what is no claim')
    t.equal((await ask(world, machine)).template, 'stage1.ipxe', 'its own claim is good still')
  })

  await t.test('a claim is good until stage 2 of its node, for an hour, and gone with disable', async (t) => {
    const world = await openWorld()
    const { context, clock } = world
    await storeDemoFleet(world)
    const machine = nameless()
    const { values } = await ask(world, machine)
    const { warnings } = await approveMachine(context, ann, String(values.code), approval)
    t.match(warnings, [/first boot goes on by itself; every later one needs media/])
    const lost = await ask(world, machine)
    t.equal(lost.template, 'stage1.ipxe')
    clock.advance(60)
    const { values: script } = await ask(world, machine)
    const node = { host: 'new1', source: machine.source, fields: {} }
    const { stage2 } = await askHandover(world, node, script.handoverToken)
    await askStage(world, node, 'stage2', stage2)
    clock.advance(60)
    t.equal(await refusalOf(world, machine), 'wrong-claim', 'used up')
    t.notMatch(await world.dump(), machine.claim)

    const late = nameless({ facts: { mac: '52-54-00-00-00-09' }, source: '192.0.2.9' })
    const code = String((await ask(world, late)).values.code)
    await approveMachine(context, ann, code, { name: 'new2', profile: 'demo' })
    clock.advance(3600)
    t.equal(await refusalOf(world, late), 'wrong-claim', 'too old')

    const off = nameless({ facts: { mac: '52-54-00-00-00-0a' }, source: '192.0.2.10' })
    await approveMachine(context, ann, String((await ask(world, off)).values.code), {
      name: 'new3',
      profile: 'demo',
    })
    await disableNode(context, ann, 'new3')
    await enableNode(context, ann, 'new3')
    t.equal(await refusalOf(world, off), 'wrong-claim', 'gone with disable')
    const taken = nameless({ facts: { mac: '52-54-00-00-00-0b' }, source: '192.0.2.11' })
    const waiting = String((await ask(world, taken)).values.code)
    await approveMachine(context, ann, waiting, { name: 'new4', profile: 'demo' })
    await revokeSecret(context, ann, 'new4') // a claim outlived it once
    t.equal(await refusalOf(world, taken), 'wrong-claim', 'gone when the secret is revoked')
    t.equal((await errorOf(revokeSecret(context, ann, 'new4'))).code, 'not-found', 'there is neither now')

    const { secret } = await issueSecret(context, ann, 'new3')
    const carried = nameless({ ...off, facts: { ...off.facts, secret } })
    t.equal((await ask(world, carried)).template, 'stage1.ipxe', 'a secret beside a claim is what counts')
  })

  await t.test(
    'a machine keeps code and claim while it asks, and has new ones when it starts anew',
    async (t) => {
      const world = await openWorld()
      const { context, clock } = world
      const machine = nameless()
      const first = await ask(world, machine)
      t.match(first.values.claim, /^[0-9a-f]{48}$/)
      clock.advance(30)
      const second = await ask(world, machine)
      t.match(second.values, { code: first.values.code, claim: '' }, 'the claim is told once')
      clock.advance(300)
      const again = nameless()
      t.not((await ask(world, again)).values.code, first.values.code)
      t.equal((await listPending(context)).length, 1, 'the row of the boot before is gone')
      for (let i = 0; i < 10; i += 1) await ask(world, nameless())
      t.equal((await listPending(context)).length, 4, 'what tells the same has a bounded share')
      const old = { ...machine.facts }
      const asksWithout = async (): Promise<string> =>
        JSON.parse(
          (
            await enrol(context, { host: undefined, source: machine.source, request: 'enrol', fields: old })
          ).replace(/^\S+ /, ''),
        )
      t.same(await asksWithout(), await asksWithout(), 'a site script of before keeps its code')
    },
  )

  await t.test('a flood from one address pushes out nobody else', async (t) => {
    const world = await openWorld({ settings: { maxPendingMachines: 10 } })
    const { context } = world
    const real = await ask(world, nameless())
    for (let i = 0; i < 30; i += 1) {
      const facts = { mac: `52-54-00-01-00-${i.toString(16).padStart(2, '0')}` }
      await ask(world, nameless({ facts, source: `2001:db8::${i + 1}` }))
    }
    const waiting = await listPending(context)
    t.equal(waiting.length, 10)
    t.ok(
      waiting.some(({ code }) => code === real.values.code),
      'one /64 counts as one',
    )
  })

  await t.test('a flood from all networks of one IPv6 site pushes out nobody else', async (t) => {
    const world = await openWorld({ settings: { maxPendingMachines: 10 } })
    const { context } = world
    const from = async (source: string, mac: string): Promise<unknown> => {
      world.clock.advance(0.01)
      return enrol(context, { host: undefined, source, request: 'stage1', fields: { mac, claim: '' } })
    }
    const real = Array.from({ length: 8 }, (_, i) => `192.0.2.${i + 1}`)
    for (const source of real) await from(source, '52-54-00-00-00-01')
    for (let net = 1; net <= 30; net += 1)
      await from(`2001:db8:0:${net.toString(16)}::1`, '52-54-00-00-00-02')
    const sources = async (): Promise<string[]> => (await listPending(context)).map(({ source }) => source)
    t.same((await sources()).filter((source) => source.startsWith('192.')).sort(), real)
    await from('192.0.2.9', '52-54-00-00-00-01')
    const full = await sources()
    t.match(await errorOf(from('2001:db8:1::1', '52-54-00-00-00-02')), { code: 'overloaded' })
    t.same(await sources(), full, 'who still asks is not dropped for one that was never seen')
    world.clock.advance(121)
    await from('2001:db8:1::1', '52-54-00-00-00-02')
    t.ok((await sources()).includes('2001:db8:1::1'), 'one that asks no more makes room')
  })

  await t.test('a machine that was turned away is told so, asks rarely, and may come back', async (t) => {
    const world = await openWorld()
    const { context, clock } = world
    await storeProfile(world, { ...demoProfile, evidence: ['secret'] })
    const machine = nameless()
    const code = String((await ask(world, machine)).values.code)
    for (const seconds of [0, 59, 1.5, 366 * 86_400])
      t.match(await errorOf(rejectMachine(context, ann, code, seconds)), { code: 'invalid' })
    await rejectMachine(context, ann, code, 7200)
    t.match(await ask(world, nameless()), {
      template: 'rejected.ipxe',
      values: { code, until: '2026-11-21T08:00:00.000Z', seconds: 600 },
    })
    t.same(await listPending(context), [])
    t.match(await listPending(context, true), [{ code, rejected: true }])
    clock.advance(7200 - 100)
    t.match(await ask(world, machine), { template: 'rejected.ipxe', values: { seconds: 100 } })
    clock.advance(100)
    t.match(await ask(world, machine), { template: 'pending.ipxe' })
    t.match(await world.events({ kind: 'machine-rejected' }), [
      { detail: { code, until: '2026-11-21T08:00:00.000Z' } },
    ])
  })

  await t.test(
    'what the operator gives goes into the node, and a machine without any fact is refused',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      await storeDemoFleet(world)
      await storeProfile(world, { name: 'place', boot: 'local', evidence: ['address'] })
      const code = String((await ask(world, nameless())).values.code)
      const { node, warnings } = await approveMachine(context, ann, code, {
        name: 'new1',
        profile: 'place',
        labels: { rack: 'r1' },
        addresses: ['192.0.2.99'],
      })
      t.match(node, { labels: { rack: 'r1' }, addresses: ['192.0.2.99'], serial: 'SN7' })
      t.match(warnings, [/it asks from 192.0.2.77, which is none of these addresses/])
      const blank = nameless({ facts: { manufacturer: 'ACME', serial: 'None' }, source: '192.0.2.80' })
      const blankCode = String((await ask(world, blank)).values.code)
      t.match(await errorOf(approveMachine(context, ann, blankCode, { name: 'new2', profile: 'place' })), {
        code: 'conflict',
        message: /tells no MAC address, UUID or serial number/,
      })
    },
  )
})
