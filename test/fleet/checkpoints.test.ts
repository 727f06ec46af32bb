import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compactVerify, createLocalJWKSet, type JSONWebKeySet } from 'jose'
import t, { type Test } from 'tap'
import { tendCheckpoints, tendRetention } from '../../src/audit.ts'
import { placesDigest } from '../../src/domain/checkpoint.ts'
import type { EventFacts } from '../../src/domain/event.ts'
import {
  checkpointKeys,
  checkpointWhenDue,
  makeCheckpoint,
  replaceCheckpointKey,
  showCheckpoint,
} from '../../src/fleet/checkpoints.ts'
import { byServer } from '../../src/fleet/operators.ts'
import { trimOldEvents } from '../../src/fleet/retention.ts'
import { type CheckpointSigner, openCheckpointSigner } from '../../src/pki/checkpoint-key.ts'
import { allChains } from '../../src/storage/chains.ts'
import { appendEvent, verifyChains } from '../../src/storage/events.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'

const day = 86_400

function folder(t: Test): string {
  const made = mkdtempSync(join(tmpdir(), 'pawl-checkpoints-'))
  mkdirSync(join(made, 'pki'))
  t.teardown(() => rmSync(made, { recursive: true, force: true }))
  return made
}

async function open(
  t: Test,
  openWorld: OpenWorld,
  options = {},
): Promise<{ world: World; signer: CheckpointSigner; dir: string }> {
  const dir = folder(t)
  return { world: await openWorld(options), signer: openCheckpointSigner(dir), dir }
}

async function append(world: World, node: string | null, count: number): Promise<void> {
  const facts = (n: number): EventFacts => ({
    ...{ kind: 'refused', at: world.clock.now(), node, session: null },
    ...{ actor: 'node', source: '192.0.2.1', detail: { n } },
  })
  await world.context.storage.transaction(async (tx) => {
    for (let n = 1; n <= count; n++) await appendEvent(tx, facts(n))
  })
}

const placed = (places: readonly { chain: string; seq: number }[] | null): Record<string, number> =>
  Object.fromEntries((places ?? []).map(({ chain, seq }) => [chain, seq]))

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('a checkpoint is signed over where every chain is, and names the one before', async (t) => {
    const { world, signer, dir } = await open(t, openWorld)
    const { db } = world.context.storage
    await append(world, 'node1', 3)
    const first = await makeCheckpoint(world.context, signer, byServer)
    await append(world, 'node2', 2)
    const second = await makeCheckpoint(world.context, signer, byServer)
    t.same(placed(first.places), { 'node/node1': 3 })
    t.same(placed(second.places), { 'node/node1': 3, 'node/node2': 2, system: 1 })
    const set = createLocalJWKSet((await checkpointKeys(db)) as unknown as JSONWebKeySet)
    const { payload, protectedHeader } = await compactVerify(second.jws, set)
    t.match(protectedHeader, { alg: 'ES256', typ: 'pawl-checkpoint+jws', kid: second.kid })
    t.same(JSON.parse(new TextDecoder().decode(payload)), {
      iss: 'https://boot.example.test:8443',
      iat: world.clock.now().getTime() / 1000,
      authority: '709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c',
      seq: 2,
      before: first.digest,
      chains: 3,
      events: 6,
      places: placesDigest(second.places ?? []),
    })
    t.same((await showCheckpoint(db, 1)).places, first.places, 'the list of an old one is found again')
    t.same((await showCheckpoint(db, 'last')).places?.length, 3)
    await t.rejects(showCheckpoint(db, 3), { code: 'not-found', message: 'there is no checkpoint 3' })
    const { length } = await db.selectFrom('checkpoint_heads').selectAll().execute()
    t.equal(length, 3, 'only chains that moved are stored again')
    t.equal(statSync(join(dir, 'pki', 'checkpoint.key')).mode & 0o777, 0o600)
    const [event] = (await world.events({ kind: 'checkpoint-signed', newest: true, limit: 1 })) ?? []
    t.match(event, { actor: 'server', detail: { seq: 2, jws: second.jws, digest: second.digest, before: 1 } })
  })

  await t.test(
    'nothing is signed where a chain does not go on from the last checkpoint, and that is on record once',
    async (t) => {
      type Db = World['context']['storage']['db']
      const cutTo = async (db: Db, seq: number): Promise<void> => {
        const { hash } = await db
          .selectFrom('events')
          .select('hash')
          .where('chain', '=', 'node/a')
          .where('seq', '=', seq)
          .executeTakeFirstOrThrow()
        await db.deleteFrom('events').where('chain', '=', 'node/a').where('seq', '>', seq).execute()
        await db
          .updateTable('chains')
          .set({ head_seq: seq, head_hash: hash })
          .where('name', '=', 'node/a')
          .execute()
      }
      const table: [
        what: string,
        tamper: (db: Db, world: World) => Promise<unknown>,
        seq: number,
        fault: string,
      ][] = [
        ['a tail that was cut off', (db) => cutTo(db, 5), 6, 'cut off'],
        [
          'a tail that was cut off and grew again',
          async (db, world) => {
            await cutTo(db, 5)
            await append(world, 'a', 9)
          },
          10,
          'edited',
        ],
        [
          'a chain that was thrown away',
          async (db) => {
            await db.deleteFrom('events').where('chain', '=', 'node/a').execute()
            await db.deleteFrom('chains').where('name', '=', 'node/a').execute()
          },
          1,
          'removed',
        ],
        [
          'an event that is gone',
          (db) => db.deleteFrom('events').where('chain', '=', 'node/a').where('seq', '=', 10).execute(),
          10,
          'missing',
        ],
        [
          'a beginning that was moved beyond what is covered',
          async (db, world) => {
            await append(world, 'a', 2)
            await db.deleteFrom('events').where('chain', '=', 'node/a').where('seq', '<=', 11).execute()
            await db.updateTable('chains').set({ base_seq: 11 }).where('name', '=', 'node/a').execute()
          },
          10,
          'trimmed too early',
        ],
      ]
      for (const [what, tamper, seq, fault] of table) {
        const { world, signer } = await open(t, openWorld, { verify: false })
        const { db } = world.context.storage
        await append(world, 'a', 10)
        await append(world, 'b', 1)
        await makeCheckpoint(world.context, signer, byServer)
        await tamper(db, world)
        await append(world, 'b', 1)
        world.clock.advance(3600)
        const message = `no checkpoint was signed: event ${seq} of chain node/a is ${fault} since checkpoint 1`
        await t.rejects(makeCheckpoint(world.context, signer, byServer), { code: 'conflict', message }, what)
        await t.rejects(checkpointWhenDue(world.context, signer, 3600), { code: 'conflict', message }, what)
        await t.rejects(replaceCheckpointKey(world.context, signer, byServer), { message }, what)
        await t.rejects(showCheckpoint(db, 2), { code: 'not-found' }, what)
        t.same(
          (await world.events({ kind: 'checkpoint-refused' })).map(({ actor, detail }) => [actor, detail]),
          [['server', { checkpoint: 1, chains: 1, faults: [{ chain: 'node/a', seq, fault }] }]],
          what,
        )
      }
    },
  )

  await t.test(
    'it is signed by itself when something happened, at most once in its time, by one server',
    async (t) => {
      const { world, signer } = await open(t, openWorld)
      const due = async (): Promise<number | undefined> =>
        (await checkpointWhenDue(world.context, signer, 3600))?.seq
      t.equal(await due(), undefined, 'nothing happened yet')
      await append(world, 'node1', 1)
      t.same(await Promise.all([due(), due()]).then((made) => made.filter((seq) => seq !== undefined)), [1])
      await append(world, 'node1', 1)
      t.equal(await due(), undefined, 'too soon')
      world.clock.advance(3600)
      t.equal(await due(), 2)
      world.clock.advance(3600)
      t.equal(await due(), undefined, 'its own event is nothing new')
      await append(world, null, 1)
      t.equal(await due(), 3)
    },
  )

  await t.test(
    'another key signs on, and both stay listed; the old one has signed the word of it',
    async (t) => {
      const { world, signer } = await open(t, openWorld)
      const { db } = world.context.storage
      const first = await makeCheckpoint(world.context, signer, byServer)
      const { keys } = await replaceCheckpointKey(world.context, signer, byServer)
      t.same(keys.map(({ retiredAt }) => retiredAt === null).sort(), [false, true])
      t.equal(
        keys.some((key) => 'd' in key),
        false,
        'no private part',
      )
      const last = await showCheckpoint(db, 'last')
      t.equal(last.kid, first.kid, 'covers the change of keys')
      const [event] = await world.events({ kind: 'checkpoint-key-replaced' })
      const next = await makeCheckpoint(world.context, signer, byServer)
      t.not(next.kid, first.kid)
      t.same(event?.detail, { before: { kid: first.kid }, after: { kid: next.kid } })
      // Another replica still has the old key in its folder.
      const other = openCheckpointSigner(folder(t))
      const signed = await makeCheckpoint(world.context, other, byServer)
      await replaceCheckpointKey(world.context, signer, byServer)
      t.not(
        (await makeCheckpoint(world.context, other, byServer)).kid,
        signed.kid,
        'which is retired: it takes a new one',
      )
    },
  )

  await t.test(
    'copies go to a folder, those that were missed too; one that is ahead says the database was set back',
    async (t) => {
      const { world, signer } = await open(t, openWorld)
      const checkpointDir = folder(t)
      rmSync(join(checkpointDir, 'pki'), { recursive: true })
      const settings = { checkpointSeconds: 0, checkpointDir, eventRetentionDays: 0 }
      const tend = (): Promise<void> => tendCheckpoints(world.context, signer, settings)
      const made = [
        await makeCheckpoint(world.context, signer, byServer),
        await makeCheckpoint(world.context, signer, byServer),
      ]
      await tend()
      await tend()
      t.same(readdirSync(checkpointDir).sort(), ['checkpoint-00000001.jws', 'checkpoint-00000002.jws'])
      t.equal(readFileSync(join(checkpointDir, 'checkpoint-00000002.jws'), 'utf8'), `${made[1]?.jws}\n`)
      writeFileSync(join(checkpointDir, 'checkpoint-00000002.jws'), 'other')
      await t.rejects(tend(), { code: 'conflict', message: /checkpoint-00000002.jws is another checkpoint/ })
      writeFileSync(join(checkpointDir, 'checkpoint-00000009.jws'), 'other')
      await t.rejects(tend(), { code: 'conflict', message: /holds checkpoint 9, the database none after 2/ })
      await t.rejects(
        tendCheckpoints(world.context, signer, { ...settings, checkpointDir: join(checkpointDir, 'gone') }),
        {
          message: /cannot be copied to .*gone \(ENOENT\)/,
        },
      )
    },
  )

  await t.test(
    'old events go, from the old end, as far as a checkpoint covers, in batches that are on record',
    async (t) => {
      const { world, signer } = await open(t, openWorld)
      const { db } = world.context.storage
      await t.rejects(trimOldEvents(world.context, signer, 6), { code: 'invalid' })
      await append(world, 'node1', 130)
      await append(world, 'node2', 2)
      world.clock.advance(20 * day)
      await append(world, 'node1', 3)
      world.clock.advance(20 * day)
      t.same(
        await trimOldEvents(world.context, signer, 30),
        { chains: 0, events: 0, faults: [] },
        'nothing is covered yet',
      )
      await makeCheckpoint(world.context, signer, byServer)
      await append(world, 'node2', 1)
      t.same(await trimOldEvents(world.context, signer, 30), { chains: 2, events: 132, faults: [] })
      const ends = (await allChains(db)).sort((a, b) => (a.name < b.name ? -1 : 1))
      t.same(
        ends.map(({ name, baseSeq, headSeq }) => [name, baseSeq, headSeq]),
        [
          ['node/node1', 130, 133],
          ['node/node2', 2, 3],
          ['system', 0, 3],
        ],
      )
      const told = await world.events({ kind: 'events-trimmed' })
      t.same(
        told.map(({ detail }) => [detail.chains, detail.events, detail.checkpoint, detail.bases]),
        [
          [2, 102, 1, { 'node/node1': 100, 'node/node2': 2 }],
          [1, 30, 1, { 'node/node1': 130 }],
        ],
      )
      const set = createLocalJWKSet((await checkpointKeys(db)) as unknown as JSONWebKeySet)
      const { payload, protectedHeader } = await compactVerify(String(told[1]?.detail.jws), set)
      t.match(protectedHeader, { alg: 'ES256', typ: 'pawl-trim+jws' })
      t.same(JSON.parse(new TextDecoder().decode(payload)), {
        iss: 'https://boot.example.test:8443',
        iat: world.clock.now().getTime() / 1000,
        authority: '709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c',
        cutoff: told[1]?.detail.cutoff,
        bases: [['node/node1', 130, ends[0]?.baseHash]],
      })
      t.same(await trimOldEvents(world.context, signer, 30), { chains: 0, events: 0, faults: [] })
      t.same((await verifyChains(db)).faults, [])
    },
  )

  await t.test('a removed node and a quiet fleet: a chain may end up empty, and goes on', async (t) => {
    const { world, signer } = await open(t, openWorld)
    await append(world, 'gone', 2)
    await makeCheckpoint(world.context, signer, byServer)
    world.clock.advance(60 * day)
    await makeCheckpoint(world.context, signer, byServer)
    const { events } = await trimOldEvents(world.context, signer, 30)
    t.equal(events, 3, 'and the event of the first checkpoint')
    await append(world, 'gone', 1)
    t.same((await verifyChains(world.context.storage.db)).faults, [])
  })

  await t.test('what does not verify stays, as evidence', async (t) => {
    const { world, signer } = await open(t, openWorld, { verify: false })
    const { db } = world.context.storage
    for (const node of ['edited', 'sound', 'cut']) await append(world, node, 5)
    await makeCheckpoint(world.context, signer, byServer)
    world.clock.advance(60 * day)
    await db
      .updateTable('events')
      .set({ actor: 'x' })
      .where('chain', '=', 'node/edited')
      .where('seq', '=', 3)
      .execute()
    await db.deleteFrom('events').where('chain', '=', 'node/cut').where('seq', '=', 2).execute()
    const logged: unknown[] = []
    const log = {
      info: (found: unknown) => logged.push(found),
      error: (found: unknown) => logged.push(found),
    }
    await tendRetention(
      world.context,
      signer,
      { checkpointSeconds: 0, checkpointDir: undefined, eventRetentionDays: 30 },
      log as never,
    )
    t.same(logged, [
      { chains: 1, events: 5 },
      {
        faults: [
          { chain: 'node/cut', seq: 2, fault: 'missing' },
          { chain: 'node/edited', seq: 3, fault: 'edited' },
        ],
      },
    ])
    t.equal((await world.events({ node: 'edited' })).length, 5)
  })
})
