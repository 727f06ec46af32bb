import t, { type Test } from 'tap'
import { confirmSecret, freshSecret } from '../../src/boot/rotate-secret.ts'
import { Refusal } from '../../src/domain/refusal.ts'
import { type SecretState, secretState } from '../../src/domain/secret.ts'
import { showNode } from '../../src/fleet/node-view.ts'
import { changeNode, removeNode } from '../../src/fleet/nodes.ts'
import { issueSecret, revokeSecret, warnOfExpiry } from '../../src/fleet/secrets.ts'
import { insertSecret } from '../../src/storage/secrets.ts'
import { demoProfile, nodeRow, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { askStage, askStage1, boot, facts, type Machine, machineOf, report } from '../helpers/machine.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

/** The cause of a refusal, or `served`. */
async function causeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    if (error instanceof Refusal) return error.why
    throw error
  }
  return 'served'
}

interface NewSecret {
  readonly id: string
  readonly secret: string
  readonly replaces: string
}

const key = 'k'.repeat(22)

/** Boots until stage 3 has answered; returns the secret that it was given, if any, and the report token. */
async function toStage3(
  world: World,
  machine: Machine,
): Promise<{ given: NewSecret | undefined; report: string; join: string; stage3: string; text: string }> {
  const learnt = await boot(world, machine, 'stage2')
  const { document, text, token } = await askStage(world, machine, 'stage3', learnt.stage3, key)
  return {
    given: document.newSecret as NewSecret | undefined,
    report: learnt.report,
    join: token,
    stage3: learnt.stage3,
    text,
  }
}

function confirm(
  world: World,
  { host, source }: Machine,
  token: string | undefined,
  id: string,
  reason?: string,
): Promise<void> {
  const told = { written: reason === undefined, reason: reason ?? '' }
  return confirmSecret(world.context, { host, source, request: 'secret', token, id, ...told })
}

const rotating = { ...demoProfile, secrets: 'rotating' }
const other = { uuid: '99999999-2222-3333-4444-555555555555', mac: '52-54-00-99-99-99', serial: 'SN9' }

t.test('the state of a secret, by what is known of it', async (t) => {
  const now = new Date('2026-11-21T06:00:00.000Z')
  const table: [string, string | null, string | null, string | null, string | null, SecretState][] = [
    ['the current one', 'a', 'a', null, null, 'current'],
    ['the current one, which runs out later', 'a', 'a', '2026-11-21T06:00:00.001Z', null, 'current'],
    ['the current one, which ran out now', 'a', 'a', '2026-11-21T06:00:00.000Z', null, 'expired'],
    ['another is current', 'a', 'b', null, null, 'replaced'],
    ['none is current', 'a', null, null, null, 'replaced'],
    ['ended, and no more current', 'a', 'b', null, 'rotated-out', 'rotated-out'],
    ['revoked', 'a', null, null, 'revoked', 'revoked'],
    ['ended and expired', 'a', 'b', '2020-01-01T00:00:00.000Z', 'replaced', 'replaced'],
  ]
  for (const [what, id, current, expires, ended, state] of table) {
    const row = { id: id ?? '', replaces: null, expires_at: expires, ended: ended as 'revoked' | null }
    t.equal(secretState(row, current, now), state, what)
  }
  const next = { id: 'n', replaces: 'a', expires_at: null, ended: null }
  t.equal(secretState(next, 'a', now), 'pending')
  t.equal(secretState({ ...next, expires_at: '2026-11-21T05:59:59.999Z' }, 'a', now), 'expired')
  t.equal(
    secretState(next, 'b', now),
    'replaced',
    'an operator issued another: what hung on the old one is void',
  )
  t.equal(secretState(next, null, now), 'replaced', 'an operator revoked it')
  t.equal(secretState(next, 'n', now), 'current')
})

await forEachDatabase(t, async (t, openWorld) => {
  /** A world with `node1`, an operator having issued its secret. */
  async function open(wish: Parameters<typeof issueSecret>[3] = {}, profile: object = demoProfile) {
    const world = await openWorld({ settings: { loopStage1s: 0 } })
    await storeDemoFleet(world)
    await storeProfile(world, profile as typeof demoProfile)
    const { secret } = await issueSecret(world.context, ann, 'node1', wish)
    return { world, secret, machine: machineOf(secret) }
  }
  const view = async (world: World) => (await showNode(world.context.storage.db, 'node1')).secret
  const refusals = async (world: World): Promise<unknown[]> =>
    (await world.events({ kind: 'refused' })).map((event) => event.detail.cause)

  await t.test('each state of a secret is refused for its own cause, and looks alike outside', async (t) => {
    const { world } = await open({ lifetimeSeconds: 3600 })
    const { context } = world
    const ask = (secret: string, host = 'node1'): Promise<string> =>
      causeOf(askStage1(world, machineOf(secret, { host })))
    const first = (await issueSecret(context, ann, 'node1', { lifetimeSeconds: 3600 })).secret
    await storeNode(world, { name: 'node2' })
    const foreign = await issueSecret(context, ann, 'node2')
    const flipped = `${first.slice(0, -1)}${first.endsWith('A') ? 'B' : 'A'}`
    const table: [string, string, string][] = [
      ['of another form', 'x', 'wrong-secret'],
      ['never issued', 'A'.repeat(44), 'wrong-secret'],
      ['of the right name, and wrong', flipped, 'wrong-secret'],
      ["another node's", foreign.secret, 'secret-foreign'],
    ]
    for (const [what, secret, cause] of table) t.equal(await ask(secret), cause, what)
    t.equal(await ask(first), 'served')
    world.clock.advance(3600)
    t.equal(await ask(first), 'secret-expired')
    t.equal(await ask(flipped), 'wrong-secret', 'who has not the whole of it is not told that it was one')
    const second = (await issueSecret(context, ann, 'node1')).secret
    t.equal(await ask(first), 'secret-replaced')
    t.equal(await ask(second), 'served')
    await revokeSecret(context, ann, 'node1')
    t.equal(await ask(second), 'secret-revoked')
    t.equal(await ask(first), 'secret-replaced')
    t.match(await view(world), { issued: false, state: 'revoked', id: null, kind: null })
    await removeNode(context, ann, 'node2')
    t.equal(await ask(foreign.secret), 'wrong-secret', 'what was of a node that is gone')
    const [named] = (await world.events({ kind: 'refused' })).filter(
      (e) => e.detail.cause === 'secret-foreign',
    )
    t.match(named, { node: 'node1', detail: { givenTo: 'node2' } })
    t.same(
      new Set(await refusals(world)),
      new Set(['wrong-secret', 'secret-foreign', 'secret-expired', 'secret-replaced', 'secret-revoked']),
    )
    t.notMatch(await world.dump(), second.slice(12), 'only hashes are stored')
  })

  await t.test('a static secret never rotates', async (t) => {
    const { world, machine } = await open()
    for (let n = 0; n < 2; n++) {
      t.equal((await toStage3(world, machine)).given, undefined)
      world.clock.advance(60)
    }
    t.match(await view(world), { kind: 'static', next: null, lastUsedFrom: '192.0.2.10' })
    t.same(await world.kinds({ kind: 'secret-offered' }), [])
  })

  for (const [what, wish, profile] of [
    ['the secret', { kind: 'rotating' }, demoProfile],
    ['the profile', {}, rotating],
  ] as const) {
    await t.test(`where ${what} says so, each boot is given another`, async (t) => {
      const { world, secret, machine } = await open(wish, profile)
      const first = await toStage3(world, machine)
      t.match(first.given, { replaces: secret.slice(0, 12), secret: /^[\w-]{44}$/ })
      const { id = '', secret: next = '' } = first.given ?? {}
      t.equal(next.slice(0, 12), id, 'its name is the beginning of it')
      t.match(await view(world), { id: secret.slice(0, 12), next: { id, writtenAt: null, fault: null } })
      await confirm(world, machine, first.report, id)
      await confirm(world, machine, first.report, id)
      t.match(await view(world), { next: { id, writtenAt: '2026-11-21T06:00:00.000Z' } })
      t.same(await world.kinds({ kind: 'secret-written' }), ['secret-written'], 'said twice, noted once')
      await askStage(world, machine, 'join', first.join)
      await report(world, machine, first.report, 'success')

      world.clock.advance(60)
      const second = await toStage3(world, machineOf(next))
      t.match(second.given, { replaces: id })
      t.match(await view(world), { id, next: { id: second.given?.id } })
      t.match((await world.events({ kind: 'secret-rotated' }))[0], {
        node: 'node1',
        source: '192.0.2.10',
        detail: { secret: id, replaces: secret.slice(0, 12) },
      })
      const dump = await world.dump()
      for (const text of [secret, next, second.given?.secret ?? '?']) t.notMatch(dump, text.slice(12))
    })
  }

  await t.test(
    'the old secret after the new one was used: refused, and an alarm with both machines',
    async (t) => {
      const { world, secret, machine } = await open({ kind: 'rotating' })
      const { given } = await toStage3(world, machine)
      world.clock.advance(60)
      t.equal(
        await causeOf(askStage1(world, { ...machineOf(given?.secret ?? ''), source: '192.0.2.10' })),
        'served',
      )
      world.clock.advance(3600)
      const copy = machineOf(secret, { source: '198.51.100.7', fields: { ...facts, ...other, secret } })
      t.equal(await causeOf(askStage1(world, copy)), 'secret-rotated-out')
      const [alarm] = await world.events({ kind: 'secret-reused-after-rotation' })
      t.match(alarm, {
        node: 'node1',
        source: '198.51.100.7',
        detail: {
          secret: secret.slice(0, 12),
          rotatedOutAt: '2026-11-21T06:01:00.000Z',
          machines: [
            { address: '192.0.2.10', at: '2026-11-21T06:01:00.000Z', facts: { serial: 'SN1' } },
            { address: '198.51.100.7', facts: { serial: 'SN9', mac: '52:54:00:99:99:99' } },
          ],
        },
      })
      t.same(await refusals(world), ['secret-rotated-out'])
      t.equal(
        await causeOf(askStage1(world, machineOf(given?.secret ?? ''))),
        'served',
        'the node itself boots on',
      )
      for (let n = 0; n < 30; n++) await causeOf(askStage1(world, copy))
      t.equal(
        (await world.events({ kind: 'secret-reused-after-rotation' })).length,
        10,
        'nobody can flood the log',
      )
    },
  )

  await t.test('strangers who flood the node with refusals do not hide that alarm', async (t) => {
    const { world, secret, machine } = await open({ kind: 'rotating' })
    const { given } = await toStage3(world, machine)
    world.clock.advance(60)
    await askStage1(world, machineOf(given?.secret ?? ''))
    for (let n = 0; n < 120; n++)
      await causeOf(askStage1(world, machineOf('x', { source: `203.0.113.${n % 12}` })))
    t.equal(
      await causeOf(askStage1(world, machineOf(secret, { source: '198.51.100.7' }))),
      'secret-rotated-out',
    )
    t.equal((await refusals(world)).length, 100, 'the node has had all that a minute takes')
    t.match(await world.events({ kind: 'secret-reused-after-rotation' }), [{ source: '198.51.100.7' }])
  })

  await t.test('a power cut at any step leaves a medium that opens', async (t) => {
    type Medium = { secret: string }
    /** One boot of a node that is cut off at a step; says what is on its medium then. */
    const steps: Record<string, (world: World, medium: Medium) => Promise<void>> = {
      'before stage 3': async (world, { secret }) => void (await boot(world, machineOf(secret), 'stage2')),
      'after stage 3, before the write': async (world, { secret }) =>
        void (await toStage3(world, machineOf(secret))),
      'after the write, before it was told': async (world, medium) => {
        medium.secret = (await toStage3(world, machineOf(medium.secret))).given?.secret ?? medium.secret
      },
      'after it was told': async (world, medium) => {
        const machine = machineOf(medium.secret)
        const { given, report } = await toStage3(world, machine)
        await confirm(world, machine, report, given?.id ?? '')
        medium.secret = given?.secret ?? medium.secret
      },
      'after a write that was told and was lost in a cache': async (world, { secret }) => {
        const machine = machineOf(secret)
        const { given, report } = await toStage3(world, machine)
        await confirm(world, machine, report, given?.id ?? '')
      },
      'after a write that failed': async (world, { secret }) => {
        const machine = machineOf(secret)
        const { given, report } = await toStage3(world, machine)
        await confirm(world, machine, report, given?.id ?? '', 'read-only file system')
      },
      'after a write that failed, and is there all the same': async (world, medium) => {
        const machine = machineOf(medium.secret)
        const { given, report } = await toStage3(world, machine)
        await confirm(world, machine, report, given?.id ?? '', 'sync: I/O error')
        medium.secret = given?.secret ?? medium.secret
      },
    }
    const { world, secret } = await open({ kind: 'rotating' })
    const medium = { secret }
    // Each step behind each other: every pair of them, two boots in a row.
    for (const [first, cut] of Object.entries(steps)) {
      for (const [second, again] of Object.entries(steps)) {
        world.clock.advance(4000)
        await cut(world, medium)
        world.clock.advance(4000)
        await again(world, medium)
        world.clock.advance(4000)
        t.equal(await causeOf(askStage1(world, machineOf(medium.secret))), 'served', `${first}; ${second}`)
      }
    }
    t.same(await refusals(world), [])
    t.same(await world.kinds({ kind: 'secret-reused-after-rotation' }), [])
    const open1 = await world.context.storage.db
      .selectFrom('node_secrets')
      .select('id')
      .where('ended', 'is', null)
      .execute()
    t.ok(open1.length <= 5, 'and no more than the current one and four that wait')
    const kept = await world.context.storage.db.selectFrom('node_secrets').select('id').execute()
    t.ok(kept.length <= 105, 'what is over is forgotten in the end')
  })

  await t.test(
    'the answer that was lost is given again with the same secret, under its key alone',
    async (t) => {
      const { world, machine } = await open({ kind: 'rotating' })
      const first = await toStage3(world, machine)
      t.equal((await askStage(world, machine, 'stage3', first.stage3, key)).text, first.text)
      t.equal(await causeOf(askStage(world, machine, 'stage3', first.stage3, 'l'.repeat(22))), 'other-key')
      t.same(await world.kinds({ kind: 'secret-offered' }), ['secret-offered'])
      await askStage(world, machine, 'join', first.join)
      t.equal(await causeOf(askStage(world, machine, 'stage3', first.stage3, key)), 'retired-token')
    },
  )

  await t.test('what the agent says of a secret counts for its own session only', async (t) => {
    const { world, machine } = await open({ kind: 'rotating' })
    const first = await toStage3(world, machine)
    const { id = '' } = first.given ?? {}
    world.clock.advance(60)
    const second = await toStage3(world, machine)
    const table: [string, string | undefined, string, string][] = [
      ['no token', undefined, id, 'no-token'],
      ['a token of another stage', second.join, second.given?.id ?? '', 'wrong-order'],
      ['the token of a session that was replaced', first.report, id, 'session-ended'],
      ["another session's secret", second.report, id, 'no-such-rotation'],
      ['no secret', second.report, 'x', 'no-such-rotation'],
      ['what PostgreSQL cannot hold', second.report, '\0'.repeat(12), 'no-such-rotation'],
    ]
    for (const [what, token, name, cause] of table)
      t.equal(await causeOf(confirm(world, machine, token, name)), cause, what)
    const words = `read-only ${'x'.repeat(400)} https://a.example/b ${'A'.repeat(44)}\u001b[31m`
    await confirm(world, machine, second.report, second.given?.id ?? '', words)
    await confirm(world, machine, second.report, second.given?.id ?? '', 'again')
    const failed = await world.events({ kind: 'secret-not-written' })
    t.equal(failed.length, 1, 'a node cannot fill the log with it')
    t.match(failed[0]?.detail, { reason: /^read-only \(long word\) \(URL\) \(long word\)/ })
    t.match((await view(world)).next, { writtenAt: null, fault: /^read-only/ })
    await confirm(world, machine, second.report, second.given?.id ?? '')
    t.match((await view(world)).next, { writtenAt: /^2026/, fault: null }, 'it may succeed after all')
  })

  await t.test('an operator who issues another in the middle of a rotation wins', async (t) => {
    const { world, machine } = await open({ kind: 'rotating' })
    const before = await boot(world, machine, 'stage2')
    const own = (await issueSecret(world.context, ann, 'node1', { kind: 'rotating' })).secret
    const { document } = await askStage(world, machine, 'stage3', before.stage3, key)
    t.equal(document.newSecret, undefined, 'issued before stage 3: nothing is handed out')
    world.clock.advance(60)
    const learnt = await toStage3(world, machineOf(own))
    const { id = '', secret: given = '' } = learnt.given ?? {}
    const last = (await issueSecret(world.context, ann, 'node1')).secret
    t.equal(
      (await askStage(world, machine, 'stage3', learnt.stage3, key)).text,
      learnt.text,
      'lost and repeated',
    )
    t.equal(
      await causeOf(confirm(world, machine, learnt.report, id)),
      'secret-replaced',
      'issued before the write',
    )
    world.clock.advance(60)
    t.equal(await causeOf(askStage1(world, machineOf(given))), 'secret-replaced')
    t.equal(await causeOf(askStage1(world, machineOf(own))), 'secret-replaced')
    t.equal(await causeOf(askStage1(world, machineOf(last))), 'served')
    t.same(
      await world.kinds({ kind: 'secret-reused-after-rotation' }),
      [],
      'that is no alarm: an operator did it',
    )
    await revokeSecret(world.context, ann, 'node1')
    t.equal(await causeOf(askStage1(world, machineOf(last))), 'secret-revoked')
  })

  await t.test(
    'copy and original both rotate: the first that comes back ends the other, with an alarm',
    async (t) => {
      const { world, machine } = await open({ kind: 'rotating' })
      const original = await toStage3(world, machine)
      await confirm(world, machine, original.report, original.given?.id ?? '')
      await report(world, machine, original.report, 'error: x', { final: true })
      world.clock.advance(60)
      // The copy was made before: it comes with the old secret, which is good still, and is given one of its own.
      const copied = { ...machine, source: '198.51.100.7', fields: { ...machine.fields, ...other } }
      const copy = await toStage3(world, copied)
      await report(world, copied, copy.report, 'error: x', { final: true })
      world.clock.advance(60)
      t.equal(await causeOf(askStage1(world, machineOf(original.given?.secret ?? ''))), 'served')
      world.clock.advance(8000)
      const again = { ...copied, fields: { ...copied.fields, secret: copy.given?.secret } }
      t.equal(await causeOf(askStage1(world, again)), 'secret-rotated-out')
      t.equal((await world.events({ kind: 'secret-reused-after-rotation' })).length, 1)
    },
  )

  await t.test(
    'old and new at the same moment: one order of the two, and never a stranded node',
    async (t) => {
      const { world, secret, machine } = await open({ kind: 'rotating' })
      let current = secret
      for (let n = 0; n < 5; n++) {
        const { given } = await toStage3(world, { ...machine, fields: { ...facts, secret: current } })
        world.clock.advance(8000)
        const next = given?.secret ?? ''
        const [old, fresh] = await Promise.all([
          causeOf(askStage1(world, machineOf(current))),
          causeOf(askStage1(world, machineOf(next))),
        ])
        t.equal(fresh, 'served')
        t.ok(old === 'served' || old === 'secret-rotated-out', old)
        t.equal((await nodeRow(world)).secret_id, next.slice(0, 12))
        t.equal(await causeOf(askStage1(world, machineOf(current))), 'secret-rotated-out')
        world.clock.advance(8000)
        current = next
      }
    },
  )

  await t.test('a medium that is never written to does not fill the database', async (t) => {
    const { world, machine } = await open({ kind: 'rotating' })
    const { db, transaction } = world.context.storage
    const long = {
      node: 'id-node1',
      secret_hash: 'f'.repeat(64),
      issued_at: '2020-01-01',
      issued_by: 'server',
    }
    await transaction(async (tx) => {
      for (let n = 0; n < 120; n++)
        await insertSecret(tx, {
          ...{ ...freshSecret, ...long, id: `long-ago-${n}` },
          ...{ ended: 'rotated-out', ended_at: '2020-01-01' },
        })
    })
    for (let n = 0; n < 6; n++) {
      await toStage3(world, machine)
      world.clock.advance(60)
    }
    const rows = await db.selectFrom('node_secrets').select('ended').execute()
    t.equal(rows.filter(({ ended }) => ended === null).length, 5, 'the current one, and four to be used')
    t.ok(rows.filter(({ ended }) => ended !== null).length <= 100)
  })

  await t.test('50 stage 1s at once with a new secret: it rotates once', async (t) => {
    const world = await openWorld({ settings: { maxStage1PerHour: 3600, loopStage1s: 0 } })
    await storeDemoFleet(world)
    const { secret } = await issueSecret(world.context, ann, 'node1', { kind: 'rotating' })
    const { given } = await toStage3(world, machineOf(secret))
    world.clock.advance(60)
    const ask = (): Promise<string> => causeOf(askStage1(world, machineOf(given?.secret ?? '')))
    const causes = await Promise.all(Array.from({ length: 50 }, ask))
    t.same(new Set(causes), new Set(['served']))
    t.same(await world.kinds({ kind: 'secret-rotated' }), ['secret-rotated'])
    const live = await world.context.storage.db
      .selectFrom('sessions')
      .select('id')
      .where('ended_at', 'is', null)
      .execute()
    t.equal(live.length, 1)
  })

  await t.test('a new secret is good as long as the one before was, from its own beginning', async (t) => {
    const { world, machine } = await open({ kind: 'rotating', lifetimeSeconds: 20 * 86_400 })
    world.clock.advance(10 * 86_400)
    const { given } = await toStage3(world, machine)
    world.clock.advance(15 * 86_400)
    t.equal(await causeOf(askStage1(world, machine)), 'secret-expired')
    t.equal(await causeOf(askStage1(world, machineOf(given?.secret ?? ''))), 'served')
    t.match(await view(world), { expiresAt: '2026-12-21T06:00:00.000Z', kind: 'rotating' })
    world.clock.advance(5 * 86_400)
    t.equal(await causeOf(askStage1(world, machineOf(given?.secret ?? ''))), 'secret-expired')
  })

  await t.test('that a secret runs out is told once, two weeks ahead', async (t) => {
    const { world } = await open({ lifetimeSeconds: 100 * 86_400 })
    world.clock.advance(86 * 86_400 - 1)
    await warnOfExpiry(world.context)
    t.same(await world.kinds({ kind: 'secret-expiring' }), [])
    world.clock.advance(1)
    await Promise.all([warnOfExpiry(world.context), warnOfExpiry(world.context)])
    await warnOfExpiry(world.context)
    const told = await world.events({ kind: 'secret-expiring' })
    t.match(told, [{ node: 'node1', actor: 'server', detail: { expiresAt: '2027-03-01T06:00:00.000Z' } }])
    await issueSecret(world.context, ann, 'node1')
    world.clock.advance(30 * 86_400)
    await warnOfExpiry(world.context)
    t.equal((await world.kinds({ kind: 'secret-expiring' })).length, 1)
  })

  await t.test('one that is good for a week is told of in its last fifth, not at once', async (t) => {
    const { world, machine } = await open({ kind: 'rotating', lifetimeSeconds: 7 * 86_400 })
    await warnOfExpiry(world.context)
    const { given } = await toStage3(world, machine)
    world.clock.advance(60)
    await askStage1(world, machineOf(given?.secret ?? ''))
    await warnOfExpiry(world.context)
    t.same(await world.kinds({ kind: 'secret-expiring' }), [], 'nor at each boot that rotates it')
    world.clock.advance((7 * 86_400 * 4) / 5 - 61)
    await warnOfExpiry(world.context)
    t.same(await world.kinds({ kind: 'secret-expiring' }), [])
    world.clock.advance(1)
    await warnOfExpiry(world.context)
    t.equal((await world.kinds({ kind: 'secret-expiring' })).length, 1)
  })

  await t.test(
    'what a replica of the release before issued has no row, and is good all the same',
    async (t) => {
      const world = await openWorld()
      const secret = await storeDemoFleet(world) // writes the node's columns, as that release does
      t.match(await view(world), { issued: true, state: 'issued', kind: 'static', issuedAt: null })
      t.equal(await causeOf(askStage1(world, machineOf(`${secret.slice(0, -1)}!`))), 'wrong-secret')
      t.equal(await causeOf(askStage1(world, machineOf(secret))), 'served')
      t.match(await view(world), { kind: 'static', lastUsedFrom: '192.0.2.10' })
      await storeProfile(world, rotating)
      world.clock.advance(60)
      t.match((await toStage3(world, machineOf(secret))).given, { replaces: secret.slice(0, 12) })
    },
  )

  await t.test('a secret that nobody looks at does not rotate', async (t) => {
    const { world, secret, machine } = await open({ kind: 'rotating' })
    const { given } = await toStage3(world, machine)
    const byAddress = { boot: ['address'], reinstall: ['secret'] }
    await storeProfile(world, { ...rotating, evidence: byAddress, acceptAddressOnly: true })
    await changeNode(world.context, ann, 'node1', { addresses: ['192.0.2.10'] })
    world.clock.advance(60)
    const forged = `${given?.id}${'A'.repeat(32)}`
    t.equal((await toStage3(world, machineOf(forged))).given, undefined)
    t.equal((await nodeRow(world)).secret_id, secret.slice(0, 12), 'nor does a forged one take its place')
  })

  await t.test('says what an operator should know of a secret', async (t) => {
    const { world } = await open({}, { ...demoProfile, evidence: ['address', 'secret'] })
    const warningsFor = async (profile: object): Promise<readonly string[]> => {
      await storeProfile(world, { ...demoProfile, ...profile })
      return (await issueSecret(world.context, ann, 'node1', { kind: 'rotating' })).warnings
    }
    t.same(await warningsFor({}), [])
    t.match(await warningsFor({ evidence: ['address'], acceptAddressOnly: true }), [
      /does not require a secret/,
    ])
    t.match(await errorOf(issueSecret(world.context, ann, 'nope', {})), { code: 'not-found' })
  })

  await t.test(
    'two machines at once: the second is refused, both are named, the first goes on',
    async (t) => {
      const { world, secret, machine } = await open()
      const copy = machineOf(secret, { source: '198.51.100.7', fields: { ...facts, ...other, secret } })
      const learnt = await boot(world, machine, 'stage2')
      t.equal(await causeOf(askStage1(world, copy)), 'two-machines')
      const [alarm] = await world.events({ kind: 'two-machines' })
      t.match(alarm, {
        node: 'node1',
        session: learnt.session,
        source: '198.51.100.7',
        detail: {
          machines: [
            { address: '192.0.2.10', session: learnt.session, facts: { uuid: facts.uuid, serial: 'SN1' } },
            { address: '198.51.100.7', session: null, facts: { uuid: other.uuid, serial: 'SN9' } },
          ],
        },
      })
      const silent = { ...copy, fields: { secret } }
      t.equal(await causeOf(askStage1(world, silent)), 'two-machines', 'nor by telling nothing of itself')
      const { token } = await askStage(world, machine, 'stage3', learnt.stage3)
      await askStage(world, machine, 'join', token)
      await report(world, machine, learnt.report, 'success')
      t.equal((await nodeRow(world)).state, 'ready', 'the first was not disturbed')
      t.equal(await causeOf(askStage1(world, silent)), 'served', 'where no boot is under way')
      await boot(world, machine, 'handover')
      t.equal(await causeOf(askStage1(world, { ...machine, fields: { secret } })), 'served', 'nor from there')
    },
  )

  await alternating(t, open)
})

/** Machines A and B come in turn: which of the visits call somebody. */
async function alternating(
  t: Test,
  open: (wish?: object, profile?: object) => Promise<{ world: World; secret: string; machine: Machine }>,
): Promise<void> {
  const hour = 3600
  const table: [string, string, number, 'record' | 'refuse', number][] = [
    ['one machine', 'AAAA', hour, 'record', 0],
    ['a board that was swapped', 'AABBB', hour, 'record', 0],
    ['a copy in turn with the original', 'ABA', hour, 'record', 1],
    ['again and again', 'ABABAB', hour, 'record', 4],
    ['in turn, and then one of them alone', 'ABAAA', hour, 'record', 1],
    ['days apart', 'ABA', 13 * hour, 'record', 0],
    ['a copy that was refused, and the original', 'ABA', hour, 'refuse', 1],
    ['a copy that is refused, and goes on', 'ABBBB', hour, 'refuse', 0],
  ]
  for (const [what, visits, apart, policy, alarms] of table) {
    await t.test(`in turn: ${what}`, async (t) => {
      const { world, secret } = await open({}, { ...demoProfile, whenFactsChange: policy })
      const machines: Record<string, Machine> = {
        A: machineOf(secret),
        B: machineOf(secret, { source: '198.51.100.7', fields: { ...facts, ...other, secret } }),
      }
      for (const visit of visits) {
        const machine = machines[visit]
        if (machine === undefined) throw new Error('no such machine')
        const cause = await causeOf(
          boot(world, machine, 'handover').then(({ report: token }) =>
            report(world, machine, token, 'error: over', { final: true }),
          ),
        )
        t.equal(cause, visit === 'B' && policy === 'refuse' ? 'facts-changed' : 'served')
        world.clock.advance(apart)
      }
      const told = await world.events({ kind: 'machines-alternate' })
      t.equal(told.length, alarms)
      if (alarms > 0)
        t.match(told[0]?.detail, {
          machines: [
            { address: '198.51.100.7', facts: { serial: 'SN9' } },
            { address: '192.0.2.10', facts: { serial: 'SN1' } },
          ],
        })
      const [refused] = await world.events({ kind: 'refused' })
      if (refused !== undefined) t.same(refused.detail.addresses, ['192.0.2.10', '198.51.100.7'])
    })
  }
}
