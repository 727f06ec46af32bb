import t from 'tap'
import type { PresentedCertificate } from '../../src/boot/certificate.ts'
import { openDownload } from '../../src/boot/download.ts'
import { addSeconds } from '../../src/domain/clock.ts'
import type { EvidenceKind } from '../../src/domain/evidence.ts'
import { Refusal } from '../../src/domain/refusal.ts'
import { demoProfile, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import {
  askHandover,
  askStage,
  askStage1,
  boot,
  facts,
  type Machine,
  machineOf,
  report,
} from '../helpers/machine.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

/** Each kind of evidence in each of its states, with what the refusal of it is called. */
const states = {
  address: { own: 'proves', elsewhere: 'wrong-address', prefix: 'says where', shared: 'says where' },
  secret: { right: 'proves', wrong: 'wrong-secret', none: 'no-secret' },
  certificate: {
    good: 'proves',
    none: 'may come later',
    'of another CA': 'certificate-other-ca',
    'in no list': 'certificate-unknown',
    "another node's": 'certificate-foreign',
    revoked: 'certificate-revoked',
    expired: 'certificate-expired',
  },
} as const satisfies Record<EvidenceKind, Record<string, string>>

type States = { [Kind in EvidenceKind]: keyof (typeof states)[Kind] }
const addresses: Record<States['address'], string> = {
  own: '192.0.2.10',
  elsewhere: '192.0.2.99',
  prefix: '198.51.100.7',
  shared: '203.0.113.5',
}
const fingerprints: Record<Exclude<States['certificate'], 'none'>, string> = {
  good: 'a'.repeat(64),
  'of another CA': 'b'.repeat(64),
  'in no list': 'c'.repeat(64),
  "another node's": 'd'.repeat(64),
  revoked: 'e'.repeat(64),
  expired: 'f'.repeat(64),
}
const policies: EvidenceKind[][] = [
  ['address'],
  ['secret'],
  ['certificate'],
  ['address', 'secret'],
  ['address', 'certificate'],
  ['secret', 'certificate'],
  ['address', 'secret', 'certificate'],
]
const good: States = { address: 'own', secret: 'right', certificate: 'good' }
/** What a kind that the policy does not name may be like: it is not looked at. */
const ignored: States = { address: 'elsewhere', secret: 'wrong', certificate: 'revoked' }

/** What the rules say of stage 1, read off the table above. */
function expected(policy: readonly EvidenceKind[], what: States): string {
  const found: string[] = policy.map((kind) => (states[kind] as Record<string, string>)[what[kind]] ?? '')
  const bad = found.find((one) => /^(wrong|no|certificate)-/.test(one))
  if (bad !== undefined) return bad
  if (found.includes('proves')) return 'served'
  return found.includes('says where') ? 'address-proves-nothing' : 'no-certificate'
}

/** Every combination of the states of these kinds; the others are as bad as can be. */
function combinations(policy: readonly EvidenceKind[]): States[] {
  return policy.reduce<States[]>(
    (all, kind) =>
      all.flatMap((one) => Object.keys(states[kind]).map((state) => ({ ...one, [kind]: state }))),
    [ignored],
  )
}

function certificateOf(state: States['certificate']): PresentedCertificate | undefined {
  if (state === 'none') return undefined
  return { fingerprint: fingerprints[state], trusted: state !== 'of another CA', subject: 'CN=whoever' }
}

async function causeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    if (error instanceof Refusal) return error.why
    throw error
  }
  return 'served'
}

const single = (address: string) => ({ address, prefixLength: address.includes(':') ? 128 : 32 })

await forEachDatabase(t, async (t, openWorld) => {
  async function open(): Promise<{ world: World; machine: (what: Partial<States>) => Machine }> {
    const world = await openWorld({ settings: { maxStage1PerHour: 100_000, loopStage1s: 0 } })
    await storeDemoFleet(world)
    const list = [
      single(addresses.own),
      { address: '198.51.100.0', prefixLength: 24 },
      single(addresses.shared),
    ]
    const secret = await storeNode(world, { name: 'here', addresses: list })
    await storeNode(world, { name: 'there', addresses: [single(addresses.shared)] })
    const now = world.clock.now()
    const year = addSeconds(now, 31_536_000).toISOString()
    for (const [state, fingerprint] of Object.entries(fingerprints)) {
      if (state === 'in no list') continue
      const row = {
        fingerprint,
        node: state === "another node's" ? 'id-there' : 'id-here',
        key_type: 'RSA 2048',
        issued_at: now.toISOString(),
        issued_by: 'operator:test',
        expires_at: state === 'expired' ? now.toISOString() : year,
        revoked_at: state === 'revoked' ? now.toISOString() : null,
        revoked_by: state === 'revoked' ? 'operator:test' : null,
        last_used_at: null,
        last_used_from: null,
      }
      await world.context.storage.db.insertInto('node_certificates').values(row).execute()
    }
    const secrets = { right: secret, wrong: 'A'.repeat(44), none: undefined }
    return {
      world,
      machine: (wish) => {
        const what = { ...good, ...wish }
        const told = secrets[what.secret]
        return machineOf('', {
          host: 'here',
          source: addresses[what.address],
          fields: told === undefined ? facts : { ...facts, secret: told },
          certificate: certificateOf(what.certificate),
        })
      },
    }
  }
  const usePolicy = (world: World, evidence: readonly EvidenceKind[]) =>
    storeProfile(world, { ...demoProfile, acceptAddressOnly: true, evidence })

  await t.test('stage 1: every policy with every state of every kind it names', async (t) => {
    const { world, machine } = await open()
    for (const policy of policies) {
      await usePolicy(world, policy)
      for (const what of combinations(policy)) {
        const cause = await causeOf(askStage1(world, machine(what)))
        t.equal(
          cause,
          expected(policy, what),
          `${policy.join('+')}: ${policy.map((k) => what[k]).join(', ')}`,
        )
      }
    }
  })

  await t.test('stage 1, in words: what the important rows of that table are', async (t) => {
    const { world, machine } = await open()
    const table: [EvidenceKind[], Partial<States>, string][] = [
      [['secret', 'certificate'], { certificate: 'none' }, 'served'],
      [['secret', 'certificate'], { certificate: 'none', secret: 'none' }, 'no-secret'],
      [['secret', 'certificate'], { certificate: 'revoked' }, 'certificate-revoked'],
      [['certificate'], { certificate: 'none' }, 'no-certificate'],
      [['certificate'], { certificate: 'good' }, 'served'],
      [['address', 'certificate'], { certificate: 'none' }, 'served'],
      [['address', 'certificate'], { certificate: 'none', address: 'shared' }, 'address-proves-nothing'],
      [['address', 'certificate'], { address: 'shared' }, 'served'],
      [['address'], { address: 'shared' }, 'address-proves-nothing'],
    ]
    for (const [policy, what, cause] of table) {
      await usePolicy(world, policy)
      t.equal(
        await causeOf(askStage1(world, machine(what))),
        cause,
        `${policy.join('+')} ${JSON.stringify(what)}`,
      )
    }
    const shared = (await world.events({ node: 'here', kind: 'refused' })).at(-1)
    t.match(shared?.detail, { cause: 'address-proves-nothing', sharedWith: ['there'] }, 'the other is named')
  })

  for (const policy of policies.filter((one) => one.includes('certificate'))) {
    const others = policy.length > 1
    await t.test(`${policy.join('+')}: every redemption wants the certificate again`, async (t) => {
      const { world, machine } = await open()
      await usePolicy(world, policy)
      const learnt = await askStage1(world, machine({}))
      const got: Record<string, string> = { handover: learnt.handoverToken ?? '' }
      const steps: [string, (machine: Machine) => Promise<unknown>][] = [
        [
          'stage2',
          async (m) => {
            const { token, document } = await askStage(world, m, 'stage2', got.stage2)
            Object.assign(got, { stage3: token, capability: document.capability as string })
          },
        ],
        [
          'download',
          (m) => {
            const { host, source, certificate } = m
            const capability = got.capability
            const asked = { host, source, certificate, request: 'artifacts', role: 'kernel', capability }
            return openDownload(world.context, asked)
          },
        ],
        ['an error reported', (m) => report(world, m, got.report, 'error: it hurts')],
        [
          'stage3',
          async (m) => {
            got.join = (await askStage(world, m, 'stage3', got.stage3)).token
          },
        ],
        ['join', (m) => askStage(world, m, 'join', got.join)],
        ['success', (m) => report(world, m, got.report, 'success')],
      ]
      for (const [state, cause] of Object.entries(states.certificate)) {
        if (cause === 'proves') continue
        const wanted = cause !== 'may come later' ? cause : others ? 'served' : 'no-certificate'
        // Opened by the firmware, which may have none; asked last, since it is spent then.
        if (wanted === 'served') continue
        const asked = askHandover(
          world,
          machine({ certificate: state as States['certificate'] }),
          got.handover,
        )
        t.equal(await causeOf(asked), wanted, `handover: ${state}`)
      }
      const firmware = machine({ certificate: others ? 'none' : 'good' })
      Object.assign(got, await askHandover(world, firmware, got.handover))
      for (const [step, ask] of steps) {
        for (const [state, cause] of Object.entries(states.certificate)) {
          if (cause === 'proves') continue
          const wanted = cause === 'may come later' ? 'no-certificate' : cause
          const asked = ask(machine({ certificate: state as States['certificate'] }))
          t.equal(await causeOf(asked), wanted, `${step}: ${state}`)
        }
        const moved = causeOf(ask(machine({ address: 'elsewhere' })))
        if (policy.includes('address') && step !== 'download')
          t.equal(await moved, 'wrong-address', `${step}: elsewhere`)
        else t.equal(await moved, 'served', `${step}: elsewhere`)
        if (policy.includes('address') && step !== 'download') await ask(machine({}))
      }
      const { state } = await world.context.storage.db
        .selectFrom('nodes')
        .select('state')
        .where('name', '=', 'here')
        .executeTakeFirstOrThrow()
      t.equal(state, 'ready', 'none of the refused spent anything')
    })
  }

  await t.test('policies without a certificate look at none', async (t) => {
    const { world, machine } = await open()
    await usePolicy(world, ['secret'])
    await boot(world, machine({ certificate: 'revoked' }))
    t.same(await world.kinds({ node: 'here', kind: 'session-ready' }), ['session-ready'])
  })

  await t.test('a certificate that is revoked in the middle of a boot opens nothing more', async (t) => {
    const { world, machine } = await open()
    await usePolicy(world, ['secret', 'certificate'])
    const learnt = await boot(world, machine({}), 'stage2')
    const { db } = world.context.storage
    const used = await db
      .selectFrom('node_certificates')
      .select(['last_used_at', 'last_used_from'])
      .where('fingerprint', '=', fingerprints.good)
      .executeTakeFirst()
    t.same(used, { last_used_at: world.clock.now().toISOString(), last_used_from: addresses.own })
    await db
      .updateTable('node_certificates')
      .set({ revoked_at: world.clock.now().toISOString(), revoked_by: 'operator:test' })
      .where('fingerprint', '=', fingerprints.good)
      .execute()
    t.equal(await causeOf(askStage(world, machine({}), 'stage3', learnt.stage3)), 'certificate-revoked')
    const refused = (await world.events({ node: 'here', kind: 'refused' })).at(-1)
    t.match(refused?.detail, { cause: 'certificate-revoked', fingerprint: fingerprints.good })
  })

  await t.test('a boot goes on by the policy it began with', async (t) => {
    const { world, machine } = await open()
    await usePolicy(world, ['secret', 'certificate'])
    const learnt = await boot(world, machine({}), 'stage2')
    await usePolicy(world, ['secret'])
    const without = askStage(world, machine({ certificate: 'none' }), 'stage3', learnt.stage3)
    t.equal(await causeOf(without), 'no-certificate')
  })

  await t.test('reinstall has a policy of its own', async (t) => {
    const { world, machine } = await open()
    const evidence = { boot: ['secret'], reinstall: ['secret', 'certificate'] }
    await storeProfile(world, { ...demoProfile, evidence })
    const plain = await boot(world, machine({ certificate: 'none' }), 'join')
    t.type(plain.script, 'string')
    await world.context.storage.db
      .updateTable('nodes')
      .set({ reinstall: 'marked' })
      .where('name', '=', 'here')
      .execute()
    const marked = await boot(world, machine({ certificate: 'none' }), 'handover')
    const asked = askStage(world, machine({ certificate: 'none' }), 'stage2', marked.stage2)
    t.equal(await causeOf(asked), 'no-certificate')
  })

  await t.test('an IPv6 /64 is a place; an address of it is a proof, however it is written', async (t) => {
    const { world } = await open()
    await usePolicy(world, ['address'])
    const prefix = { address: '2001:db8:1::', prefixLength: 64 }
    await storeNode(world, { name: 'wide', addresses: [prefix] })
    await storeNode(world, { name: 'both', addresses: [prefix, single('2001:db8:1::5')] })
    const ask = (host: string, source: string) =>
      causeOf(askStage1(world, machineOf('', { host, source, fields: facts })))
    t.equal(await ask('wide', '2001:db8:1::5'), 'address-proves-nothing')
    t.equal(await ask('both', '2001:db8:1::5'), 'served', 'the prefix of another node is no second holder')
    t.equal(await ask('both', '2001:db8:1::6'), 'address-proves-nothing')
    t.equal(await ask('both', '2001:db8:2::5'), 'wrong-address')
    const refused = await world.events({ kind: 'refused' })
    t.match(refused[0]?.detail, { registered: 'prefix' })
  })
})
