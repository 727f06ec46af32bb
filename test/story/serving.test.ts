import t from 'tap'
import { enrol } from '../../src/boot/enrol.ts'
import { serveStage1 } from '../../src/boot/serve-stage1.ts'
import { Refusal } from '../../src/domain/refusal.ts'
import { demoProfile, nodeRow, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { askStage, askStage1, boot, facts, machineOf, report } from '../helpers/machine.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

async function causeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    if (error instanceof Refusal) return error.why
    throw error
  }
  return 'served'
}

const single = (address: string): { address: string; prefixLength: number } => ({
  address,
  prefixLength: address.includes(':') ? 128 : 32,
})

await forEachDatabase(t, async (t, openWorld) => {
  async function open(): Promise<{ world: World; secret: string }> {
    const world = await openWorld()
    return { world, secret: await storeDemoFleet(world) }
  }
  const change = (world: World, changes: Record<string, unknown>, name = 'node1'): Promise<unknown> =>
    world.context.storage.db.updateTable('nodes').set(changes).where('name', '=', name).execute()

  await t.test('refuses stage 1 by cause', async (t) => {
    const { world, secret } = await open()
    const revoked = await storeNode(world, { name: 'revoked', secret_id: null, secret_hash: null })
    await storeNode(world, { name: 'off', state: 'disabled' })
    await storeNode(world, { name: 'bare', profile: null })
    await storeProfile(world, { ...demoProfile, name: 'ghost', boot: { stage2: 'no@1', stage3: 'no@1' } })
    const ghost = await storeNode(world, { name: 'ghost', profile: 'ghost' })
    const table: [string, Parameters<typeof machineOf>[1], string][] = [
      ['a host that is unknown', { host: 'nobody' }, 'unknown-node'],
      ['a host that is no name', { host: 'a b' }, 'unknown-node'],
      ['a disabled node', { host: 'off' }, 'node-disabled'],
      ['a node without a profile', { host: 'bare' }, 'no-profile'],
      ['no secret', { fields: facts }, 'no-secret'],
      ['an empty secret', { fields: { ...facts, secret: '' } }, 'no-secret'],
      ['a secret of another form', { fields: { ...facts, secret: 'x' } }, 'wrong-secret'],
      ['a secret given twice', { fields: { ...facts, secret: [secret, secret] } }, 'no-secret'],
      ["another node's secret", { fields: { ...facts, secret: ghost } }, 'wrong-secret'],
      [
        'a secret that was revoked',
        { host: 'revoked', fields: { ...facts, secret: revoked } },
        'wrong-secret',
      ],
      [
        'an image that is not published',
        { host: 'ghost', fields: { ...facts, secret: ghost } },
        'image-missing',
      ],
    ]
    for (const [what, wish, cause] of table) {
      t.equal(await causeOf(askStage1(world, machineOf(secret, wish))), cause, what)
    }
    const tokens = await world.context.storage.db.selectFrom('tokens').select('id').execute()
    t.same(tokens, [], 'no token was minted')
    t.equal((await world.kinds({ kind: 'refused' })).length, table.length)
    const unknown = (await world.events({ kind: 'refused' })).filter((event) => event.node === null)
    t.match(unknown[0], { chain: 'unknown', detail: { host: 'nobody' } })
  })

  await t.test('refuses facts that are malformed, and says which', async (t) => {
    const { world, secret } = await open()
    const table: [Record<string, unknown>, string][] = [
      [{ serial: 'x'.repeat(257) }, 'fact "serial" is longer than 256 characters'],
      [{ product: 'caf\u00e9' }, 'fact "product" holds characters that are not printable ASCII'],
      [{ asset: 'a\nb' }, 'fact "asset" holds characters that are not printable ASCII'],
      [{ mac: ['a', 'b'] }, 'fact "mac" was given more than once'],
    ]
    for (const [fields, message] of table) {
      await t.rejects(askStage1(world, machineOf(secret, { fields: { ...fields, secret } })), {
        code: 'invalid',
        message,
      })
    }
    t.equal(
      (await world.events({ node: 'node1', kind: 'refused' })).filter((e) => e.detail.cause === 'malformed')
        .length,
      4,
    )
  })

  await t.test('an address proves a node only where it is one address of that node alone', async (t) => {
    const { world } = await open()
    await storeProfile(world, { ...demoProfile, evidence: ['address'], acceptAddressOnly: true })
    const places = [
      single('192.0.2.10'),
      single('2001:db8::10'),
      { address: '198.51.100.0', prefixLength: 24 },
      single('203.0.113.5'),
    ]
    await storeNode(world, { name: 'placed', addresses: places })
    await storeNode(world, { name: 'neighbour', addresses: [single('203.0.113.5')] })
    const ask = (source: string): Promise<string> =>
      causeOf(askStage1(world, machineOf('', { host: 'placed', source, fields: facts })))
    t.equal(await ask('192.0.2.11'), 'wrong-address')
    t.equal(await ask('2001:db8::11'), 'wrong-address')
    t.equal(await ask('198.51.100.7'), 'address-proves-nothing', 'a prefix')
    t.equal(await ask('203.0.113.5'), 'address-proves-nothing', 'an address that two nodes have')
    t.equal(await ask('192.0.2.10'), 'served')
    t.equal(await ask('::ffff:192.0.2.10'), 'served', 'IPv4 mapped into IPv6 is that IPv4 address')
    t.equal(await ask('2001:db8:0::10'), 'served', 'the other family of the same node')
  })

  await t.test(
    'a required address is checked at every redemption, a prefix beside a secret is enough',
    async (t) => {
      const { world } = await open()
      await storeProfile(world, { ...demoProfile, evidence: ['address', 'secret'] })
      const addresses = [{ address: '192.0.2.0', prefixLength: 24 }, single('2001:db8::10')]
      const secret = await storeNode(world, { name: 'placed', addresses })
      const machine = machineOf(secret, { host: 'placed' })
      const learnt = await boot(world, machine, 'handover')
      t.equal(
        await causeOf(askStage(world, { ...machine, source: '198.51.100.1' }, 'stage2', learnt.stage2)),
        'wrong-address',
      )
      t.equal(
        await causeOf(report(world, { ...machine, source: '198.51.100.1' }, learnt.report, 'error: x')),
        'wrong-address',
      )
      t.ok(
        await askStage(world, { ...machine, source: '2001:db8::10' }, 'stage2', learnt.stage2),
        'any registered address counts',
      )
    },
  )

  await t.test('a stick in another machine is refused where its UUID or serial is registered', async (t) => {
    const { world, secret } = await open()
    await change(world, { uuid: facts.uuid, serial: 'SN1' })
    const ask = (more: object): Promise<string> =>
      causeOf(askStage1(world, machineOf(secret, { fields: { ...facts, ...more, secret } })))
    t.equal(await ask({ uuid: '99999999-2222-3333-4444-555555555555' }), 'facts-contradict')
    t.equal(await ask({ serial: 'SN2' }), 'facts-contradict')
    t.equal(await ask({ uuid: facts.uuid.toUpperCase() }), 'served')
    await report(
      world,
      machineOf(secret),
      (await boot(world, machineOf(secret), 'handover')).report,
      'error: x',
      { final: true },
    )
    t.equal(await ask({ mac: '52:54:00:00:00:99' }), 'served', 'another NIC is only noted')
    t.match((await world.events({ kind: 'facts-changed' }))[0]?.detail, { changed: ['mac'] })
  })

  await t.test('without a host name the facts select and the secret proves', async (t) => {
    const { world, secret } = await open()
    await change(world, { uuid: facts.uuid })
    await storeNode(world, { name: 'node2', serial: 'SN1' })
    const hostless = (fields: object): ReturnType<typeof serveStage1> =>
      serveStage1(world.context, {
        host: undefined,
        source: '192.0.2.10',
        request: 'stage1.ipxe',
        fields: { ...fields, secret },
        format: 'ipxe',
      })
    t.equal(await causeOf(hostless({ uuid: facts.uuid, serial: 'SN1' })), 'facts-ambiguous')
    t.equal(
      await causeOf(hostless({ serial: 'SN1' })),
      'wrong-secret',
      'facts select node2, whose secret it is not',
    )
    t.equal(await hostless({ serial: 'unheard of' }), undefined, 'no match is a matter for enrolment')
    t.match(await hostless({ uuid: facts.uuid }), { body: /"host":"node1"/ })
  })

  await t.test(
    'an unknown machine keeps its code while it asks, for its facts and source only',
    async (t) => {
      const { world } = await open()
      const ask = async (serial: string, source = '192.0.2.9'): Promise<string> => {
        const text = await enrol(world.context, {
          host: undefined,
          source,
          request: 'enrol',
          fields: { serial },
        })
        return JSON.parse(text.replace('pending.ipxe ', '')).code
      }
      const code = await ask('A')
      t.match(code, /^[0-9a-hjkmnp-tv-z]{5}-[0-9a-hjkmnp-tv-z]{5}$/, '50 bits')
      t.equal(await ask('A'), code)
      t.not(await ask('B'), code, 'other facts')
      t.not(await ask('A', '192.0.2.10'), code, 'another source')
      world.clock.advance(3601)
      t.not(await ask('A'), code, 'an hour without asking')
      for (let i = 0; i < 120; i++) await ask(`flood-${i}`)
      const rows = await world.context.storage.db.selectFrom('pending_machines').select('code').execute()
      t.equal(rows.length, 100, 'the list is bounded')
    },
  )

  await t.test('a reinstall is served once, and cleared only by the session that served it', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const normal = await boot(world, machine, 'join')
    await change(world, { reinstall: 'marked' })
    await report(world, machine, normal.report, 'success')
    t.match(
      await nodeRow(world),
      { reinstall: 'marked', state: 'ready' },
      "a normal boot's success leaves the mark",
    )
    world.clock.advance(60)
    const first = await boot(world, machine, 'join')
    t.match(await nodeRow(world), {
      reinstall: 'serving',
      reinstall_session: first.session,
      reinstall_attempts: 1,
    })
    await report(world, machine, first.report, 'success')
    t.match(await nodeRow(world), { reinstall: 'none', reinstall_attempts: 0, state: 'ready' })
    const sessions = await world.context.storage.db
      .selectFrom('sessions')
      .select('sequence')
      .orderBy('started_at')
      .execute()
    t.same(
      sessions.map((s) => s.sequence),
      ['boot', 'reinstall'],
    )
  })

  await t.test('a mark set again while a reinstall runs outlives that reinstall', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    await change(world, { reinstall: 'marked' })
    const learnt = await boot(world, machine, 'join')
    await change(world, { reinstall: 'marked', reinstall_session: null })
    await report(world, machine, learnt.report, 'success')
    t.match(await nodeRow(world), { reinstall: 'marked', state: 'ready' })
  })

  await t.test(
    'a reinstall that fails three times is held, and says so until an operator acts',
    async (t) => {
      const { world, secret } = await open()
      const machine = machineOf(secret)
      await change(world, { reinstall: 'marked' })
      await boot(world, machine, 'handover')
      world.clock.advance(60)
      t.match(await nodeRow(world), { reinstall_attempts: 0 }, 'an attempt counts when stage 2 is redeemed')
      for (let attempt = 1; attempt <= 3; attempt++) {
        const learnt = await boot(world, machine, 'stage2')
        t.match(await nodeRow(world), { reinstall: 'serving', reinstall_attempts: attempt })
        if (attempt === 2) await report(world, machine, learnt.report, 'error: no disk', { final: true })
        world.clock.advance(60)
      }
      const held = await askStage1(world, machine)
      t.match(held, { template: 'held.ipxe', values: { attempts: 3 } })
      t.match(await nodeRow(world), { state: 'held', reinstall: 'marked', reinstall_attempts: 3 })
      t.equal((await askStage1(world, machine)).template, 'held.ipxe', 'and again')
      const { host, source, fields } = machine
      const json = serveStage1(world.context, {
        host,
        source,
        request: 'stage1.json',
        fields,
        format: 'json',
      })
      t.equal(await causeOf(json), 'held', 'a client that takes no script is refused')
      t.same(await world.kinds({ kind: 'node-held' }), ['node-held'])
      t.equal(
        await causeOf(askStage1(world, machineOf('', { fields: facts }))),
        'no-secret',
        'only the node itself is told',
      )
      const live = await world.context.storage.db
        .selectFrom('sessions')
        .select('id')
        .where('ended_at', 'is', null)
        .execute()
      t.same(live, [])
    },
  )

  await t.test(
    'a local sequence is recorded and hands over to the disk, unless a reinstall is marked',
    async (t) => {
      const { world, secret } = await open()
      await storeProfile(world, { ...demoProfile, boot: 'local' })
      const machine = machineOf(secret)
      t.match(await askStage1(world, machine), { template: 'local-boot.ipxe', values: { uefi: true } })
      t.match(await nodeRow(world), { state: 'ready' })
      const sessions = await world.context.storage.db.selectFrom('sessions').selectAll().execute()
      t.match(sessions, [{ local: 1, state: 'ready', stage: 'stage1' }])
      await change(world, { reinstall: 'marked' })
      t.equal((await askStage1(world, machine)).template, 'stage1.ipxe')
    },
  )

  await t.test('with armed, a ready node boots once for each time an operator says so', async (t) => {
    const { world, secret } = await open()
    await storeProfile(world, { ...demoProfile, armed: true })
    const machine = machineOf(secret)
    await boot(world, machine)
    t.equal(await causeOf(askStage1(world, machine)), 'not-armed')
    await change(world, { armed: 1 })
    await boot(world, machine, 'stage2')
    world.clock.advance(60)
    await boot(world, machine)
    t.equal(
      await causeOf(askStage1(world, machine)),
      'not-armed',
      'a boot that failed may be repeated, then it is over',
    )
  })

  await t.test('what is published or changed during a boot changes nothing in it', async (t) => {
    const { world, secret } = await open()
    const machine = machineOf(secret)
    const learnt = await boot(world, machine, 'handover')
    await storeProfile(world, {
      ...demoProfile,
      boot: { stage2: 'small@1', stage3: 'full@2' },
      kernelArguments: 'changed',
    })
    t.match((await askStage(world, machine, 'stage2', learnt.stage2)).document, {
      image: 'full@1',
      args: 'console=ttyS0 quiet',
    })
  })
})
