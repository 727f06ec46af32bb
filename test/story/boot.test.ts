import t from 'tap'
import { expireSessions } from '../../src/boot/expire-sessions.ts'
import { Refusal } from '../../src/domain/refusal.ts'
import { parseSshHostKeys } from '../../src/domain/ssh-host-key.ts'
import { parseWireguardKey } from '../../src/domain/wireguard-key.ts'
import { showNode } from '../../src/fleet/node-view.ts'
import { nodeRow, storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import {
  askHandover,
  askStage,
  askStage1,
  boot,
  facts,
  machineOf,
  report,
  type Until,
} from '../helpers/machine.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

/** The cause that `work` was refused with; the event log must have it too. */
async function causeOf(world: World, work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    const last = (await world.events({ kind: 'refused' })).at(-1)
    return last?.detail.cause === error.why
      ? error.why
      : `${error.why}, but the log says ${last?.detail.cause}`
  }
  return 'not refused'
}

const key = 'a'.repeat(22)
const otherKey = 'b'.repeat(22)

await forEachDatabase(t, async (t, openWorld) => {
  async function open(): Promise<{ world: World; secret: string }> {
    const world = await openWorld()
    return { world, secret: await storeDemoFleet(world) }
  }

  await t.test('refuses every wrong token by its own cause, and spends nothing', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const otherSecret = await storeNode(world, { name: 'node2' })
    const other = {
      ...machineOf(otherSecret),
      host: 'node2',
      fields: { uuid: '21111111-2222-3333-4444-555555555555', secret: otherSecret },
    }
    const learnt = await boot(world, machine, 'handover')
    const foreign = await boot(world, other, 'handover')
    const wrong = (token: string): string => token.slice(0, 40) + (token.endsWith('AAAA') ? 'BBBB' : 'AAAA')
    const table: [string, string | undefined, string][] = [
      ['no token', undefined, 'no-token'],
      ['an empty token', '', 'no-token'],
      ['a token of another form', 'x', 'malformed-token'],
      ['a token that was never issued', 'A'.repeat(44), 'unknown-token'],
      ["a token's name with another secret", wrong(learnt.stage2), 'wrong-token-secret'],
      ["another node's token", foreign.stage2, 'foreign-token'],
      ['the report token', learnt.report, 'wrong-order'],
      ['the handover token', learnt.handoverToken, 'wrong-order'],
      ['the download capability', learnt.capability, 'wrong-order'],
    ]
    for (const [what, token, cause] of table) {
      t.equal(await causeOf(world, askStage(world, machine, 'stage2', token)), cause, what)
    }
    t.ok(
      (await askStage(world, machine, 'stage2', learnt.stage2)).token,
      'the right token still opens its stage',
    )
  })

  await t.test('opens each stage once, in order', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine)
    t.equal(await causeOf(world, askHandover(world, machine, learnt.handoverToken)), 'session-ended')
    for (const stage of ['stage2', 'stage3', 'join'] as const) {
      t.equal(await causeOf(world, askStage(world, machine, stage, learnt[stage])), 'session-ended', stage)
    }
    t.equal(await causeOf(world, report(world, machine, learnt.report, 'success')), 'spent-token')
    t.match(await nodeRow(world), { state: 'ready', reinstall: 'none' })
    t.same(await world.kinds({ node: 'node1', session: learnt.session }), [
      'session-opened',
      'handover-opened',
      'stage2-redeemed',
      'stage3-redeemed',
      'join-redeemed',
      'session-ready',
      ...Array(5).fill('refused'),
    ])
  })

  await t.test('50 redemptions of one token at once get one answer and 49 refusals', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const { stage2 } = await boot(world, machine, 'handover')
    const results = await Promise.allSettled(
      Array.from({ length: 50 }, () => askStage(world, machine, 'stage2', stage2)),
    )
    t.equal(results.filter((r) => r.status === 'fulfilled').length, 1)
    const refused = results.filter(
      (r) => r.status === 'rejected' && r.reason instanceof Refusal && r.reason.why === 'spent-token',
    )
    t.equal(refused.length, 49)
    t.equal((await world.kinds({ kind: 'stage2-redeemed' })).length, 1)
  })

  await t.test('a handover opens once, asked at once or later (PostgreSQL answered 500)', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const { handoverToken } = await askStage1(world, machine)
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, () => askHandover(world, machine, handoverToken)),
    )
    const causes = results.map((r) =>
      r.status === 'fulfilled' ? 'opened' : r.reason instanceof Refusal ? r.reason.why : String(r.reason),
    )
    t.same(causes.sort(), ['opened', ...Array(9).fill('spent-token')])
    t.equal(await causeOf(world, askHandover(world, machine, handoverToken)), 'spent-token')
    t.same(await world.kinds({ kind: 'handover-opened' }), ['handover-opened'])
  })

  await t.test('gives a lost answer again under its key, until the next stage begins', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'handover')
    const first = await askStage(world, machine, 'stage2', learnt.stage2, key)
    t.equal(await causeOf(world, askStage(world, machine, 'stage2', learnt.stage2, otherKey)), 'other-key')
    t.equal(await causeOf(world, askStage(world, machine, 'stage2', learnt.stage2)), 'spent-token', 'no key')
    t.equal(
      await causeOf(world, askStage(world, machine, 'stage2', learnt.stage2, 'short')),
      'spent-token',
      'a bad key',
    )
    t.equal(
      (await askStage(world, machine, 'stage2', learnt.stage2, key)).text,
      first.text,
      'the same answer',
    )
    await askStage(world, machine, 'stage3', first.token)
    t.equal(await causeOf(world, askStage(world, machine, 'stage2', learnt.stage2, key)), 'retired-token')
    const kept = await world.context.storage.db
      .selectFrom('tokens')
      .select('id')
      .where('answer', 'is not', null)
      .execute()
    t.same(kept, [], 'the sealed answer is deleted')
  })

  await t.test('a token without a key cannot be made repeatable afterwards', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'handover')
    await askStage(world, machine, 'stage2', learnt.stage2)
    t.equal(await causeOf(world, askStage(world, machine, 'stage2', learnt.stage2, key)), 'spent-token')
  })

  await t.test('the SSH host keys of a success are kept in its event', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'join')
    const sshHostKeys = parseSshHostKeys(`ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)}`)
    await report(world, machine, learnt.report, 'error: first', { sshHostKeys })
    t.notOk((await world.events({ kind: 'attempt-failed' }))[0]?.detail.sshHostKeys)
    await report(world, machine, learnt.report, 'success', { sshHostKeys })
    t.same((await world.events({ kind: 'session-ready' }))[0]?.detail.sshHostKeys, sshHostKeys)
  })

  await t.test(
    'the public key of a tunnel that the join set up is kept in the event of its success',
    async (t) => {
      const { world, secret } = await open()
      const machine = machineOf(secret)
      const learnt = await boot(world, machine, 'join')
      const wireguardPublicKey = parseWireguardKey('xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=')
      await report(world, machine, learnt.report, 'error: first', { wireguardPublicKey })
      t.notOk((await world.events({ kind: 'attempt-failed' }))[0]?.detail.wireguardPublicKey)
      await report(world, machine, learnt.report, 'success', { wireguardPublicKey })
      t.equal(
        (await world.events({ kind: 'session-ready' }))[0]?.detail.wireguardPublicKey,
        wireguardPublicKey,
      )
      const shown = async () => (await showNode(world.context.storage.db, 'node1')).wireguardPublicKey
      t.equal(await shown(), wireguardPublicKey, 'and with the node, for who sets up its peers')
      world.clock.advance(60)
      const again = await boot(world, machine, 'join')
      t.equal(await shown(), wireguardPublicKey, 'until the next boot is over')
      await report(world, machine, again.report, 'success')
      t.equal(await shown(), null, 'which set up none')
    },
  )

  await t.test('a success report may be repeated under its key, and under no other', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'join')
    await report(world, machine, learnt.report, 'success', { key })
    await report(world, machine, learnt.report, 'success', { key })
    t.equal(
      await causeOf(world, report(world, machine, learnt.report, 'success', { key: otherKey })),
      'spent-token',
    )
    t.same(await world.kinds({ kind: 'session-ready' }), ['session-ready'])
  })

  for (const until of ['handover', 'stage2', 'stage3'] as Until[]) {
    await t.test(`success reported after ${until} is refused`, async (t) => {
      const { world, secret } = await open()
      const machine = machineOf(secret)
      const learnt = await boot(world, machine, until)
      t.equal(await causeOf(world, report(world, machine, learnt.report, 'success')), 'early-success')
      t.match(await nodeRow(world), { state: 'booting' })
    })
  }

  await t.test('an error is an event and changes nothing; a final one ends the session', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'stage2')
    await report(
      world,
      machine,
      learnt.report,
      `error: no disk https://a/${learnt.report}/x ${learnt.stage3}\u001b[31m`,
    )
    t.match(await nodeRow(world), { state: 'booting' })
    const [failed] = await world.events({ kind: 'attempt-failed' })
    t.equal(failed?.detail.message, 'error: no disk (URL) (long word) [31m', 'no token and no escape is kept')
    await report(world, machine, learnt.report, 'error: gone', { final: true })
    t.match(await nodeRow(world), { state: 'failed', failure_cause: 'reported' })
    t.equal(await causeOf(world, askStage(world, machine, 'stage3', learnt.stage3)), 'session-ended')
    await report(world, machine, learnt.report, 'success')
    t.match(await nodeRow(world), { state: 'failed' }, 'a late success changes nothing')
    t.equal((await world.events({ kind: 'reported-late' }))[0]?.detail.message, 'success')
  })

  await t.test('tokens and sessions run out', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'handover')
    world.clock.advance(7200)
    t.equal(await causeOf(world, askStage(world, machine, 'stage2', learnt.stage2)), 'expired-token')
    world.clock.advance(1)
    await report(world, machine, learnt.report, 'error: too late')
    t.same(await world.kinds({ kind: 'reported-late' }), ['reported-late'])
    t.match(await nodeRow(world), { state: 'failed', failure_cause: 'expired' })
    t.same(await world.kinds({ kind: 'session-expired' }), ['session-expired'])
    t.equal((await askStage1(world, machine)).template, 'stage1.ipxe', 'and the node may begin again')
    world.clock.advance(7201)
    await expireSessions(world.context)
    t.match(await nodeRow(world), { state: 'failed', failure_cause: 'expired' }, 'the timer ends it too')
  })

  await t.test('a later stage 1 retires the session before it', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const before = await boot(world, machine, 'stage2')
    world.clock.advance(60)
    const after = await boot(world, machine, 'handover')
    t.equal(await causeOf(world, askStage(world, machine, 'stage3', before.stage3)), 'session-ended')
    const [event] = await world.events({ kind: 'session-superseded' })
    t.match(event, { session: before.session, detail: { stage: 'stage2' } })
    t.notOk(event?.detail.repeat)
    t.ok(await askStage(world, machine, 'stage2', after.stage2))
    await report(world, machine, before.report, 'success')
    t.match(await nodeRow(world), { state: 'booting' }, 'the old report is only noted')
  })

  await t.test('the same NIC asking again at once is a repeat, not a concern', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    await boot(world, machine, 'stage1')
    world.clock.advance(29)
    await boot(world, machine, 'stage1')
    t.equal((await world.events({ kind: 'session-superseded' }))[0]?.detail.repeat, true)
  })

  await t.test('another machine does not supersede a live session', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'stage2')
    const other = {
      ...machine,
      source: '192.0.2.66',
      fields: { ...facts, uuid: '99999999-2222-3333-4444-555555555555', secret },
    }
    t.equal(await causeOf(world, askStage1(world, other)), 'two-machines')
    const [event] = await world.events({ kind: 'refused' })
    t.same(event?.detail.addresses, ['192.0.2.10', '192.0.2.66'])
    t.ok(await askStage(world, machine, 'stage3', learnt.stage3), 'the first goes on')
  })

  await t.test('a session that moves to another address goes on, and it is noted', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'handover')
    await askStage(world, { ...machine, source: '2001:db8::1' }, 'stage2', learnt.stage2)
    t.match((await world.events({ kind: 'address-changed' }))[0], {
      source: '2001:db8::1',
      detail: { before: '192.0.2.10' },
    })
  })

  await t.test('no table and no event holds a secret', async (t) => {
    const { world, secret } = await open()
    const learnt = await boot(world, machineOf(secret), 'join')
    const dump = await world.dump()
    for (const [name, value] of Object.entries({ secret, ...learnt })) {
      if (name === 'session' || name === 'script' || name === 'template' || value === '') continue
      if (typeof value === 'string') t.notOk(dump.includes(value.slice(12)), `${name} is not in the database`)
    }
  })
})
