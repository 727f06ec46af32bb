import { createDecipheriv, hkdfSync } from 'node:crypto'
import t from 'tap'
import { openRandomPool } from '../../src/boot/random-pool.ts'
import { readingOnce } from '../../src/boot/reading-once.ts'
import { openAnswer, sealAnswer } from '../../src/boot/sealed-answer.ts'
import { inTransaction } from '../../src/boot/work.ts'
import { hashSecret, type IdempotencyKey, type TokenId } from '../../src/domain/token.ts'
import { consumeToken } from '../../src/storage/redemption.ts'
import { watchStatements } from '../crash/statements.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { boot, machineOf, report } from '../helpers/machine.ts'
import { forEachDatabase } from '../helpers/world.ts'

/** What a step of a boot is written with: random bytes, sealed answers, and what waits for the commit. */

const key = 'k'.repeat(22) as IdempotencyKey

await t.test(
  'gives every random byte once, in the order of the generator, and keeps none of it',
  async (t) => {
    const filled: Uint8Array[] = []
    let next = 0
    const random = openRandomPool((bytes) => {
      filled.push(bytes)
      const words = new DataView(bytes.buffer)
      for (let at = 0; at < bytes.length; at += 4) words.setUint32(at, ++next)
    })
    const seen = new Set<number>()
    for (let given = 0; given < 2000; given += 1) {
      const bytes = random(32)
      t.equal(bytes.length, 32)
      const words = new DataView(bytes.buffer)
      for (let at = 0; at < 32; at += 4) {
        t.notOk(seen.has(words.getUint32(at)), 'no word is given twice')
        seen.add(words.getUint32(at))
      }
    }
    t.equal(seen.size, 16_000)
    const pool = filled[0] ?? new Uint8Array(1)
    t.equal(pool.length, 4096)
    random(pool.length / 8)
    t.ok(
      pool.subarray(0, 512).every((byte) => byte === 0),
      'what was given is overwritten',
    )
    t.not(random(32).buffer, pool.buffer, 'what was given is no part of the pool')
  },
)

await t.test('gives more than a pool has straight from the generator', async (t) => {
  const sizes: number[] = []
  const random = openRandomPool((bytes) => {
    sizes.push(bytes.length)
    bytes.fill(1)
  })
  t.same([random(513).length, random(10_000).length], [513, 10_000])
  t.same(sizes, [513, 10_000])
  random(512)
  t.same(sizes, [513, 10_000, 4096])
})

await t.test('gives other bytes each time, by the real generator', async (t) => {
  const random = openRandomPool()
  const all = Array.from({ length: 1000 }, () => Buffer.from(random(33)).toString('hex'))
  t.equal(new Set(all).size, 1000)
  t.notOk(all.includes('00'.repeat(33)))
})

await t.test('seals under HKDF-SHA-256 of secret and key, as Pawl always did', async (t) => {
  const random = openRandomPool()
  for (const length of [22, 63, 64]) {
    const long = 'K'.repeat(length) as IdempotencyKey
    const sealed = Buffer.from(sealAnswer('an answer', 's'.repeat(32), long, random), 'base64url')
    const derived = Buffer.from(hkdfSync('sha256', 's'.repeat(32), long, 'pawl answer v1', 32))
    const decipher = createDecipheriv('aes-256-gcm', derived, sealed.subarray(0, 12))
    decipher.setAuthTag(sealed.subarray(12, 28))
    t.equal(Buffer.concat([decipher.update(sealed.subarray(28)), decipher.final()]).toString(), 'an answer')
  }
  const sealed = sealAnswer('an answer', 'secret', key, random)
  t.equal(openAnswer(sealed, 'secret', key), 'an answer')
  t.equal(openAnswer(sealed, 'secret!', key), undefined)
  t.equal(openAnswer(sealed, 'secret', `${key}k` as IdempotencyKey), undefined)
})

await t.test(
  'reads a text once while it is kept, keeps nothing of one that cannot be read, and is bounded',
  async (t) => {
    const read: string[] = []
    const reading = readingOnce(3, (text) => {
      read.push(text)
      return JSON.parse(text) as unknown
    })
    t.throws(() => reading('{'))
    t.throws(() => reading('{'))
    t.same(read.splice(0), ['{', '{'])
    const first = reading('[1]')
    t.equal(reading('[1]'), first)
    for (const text of ['[2]', '[3]', '[4]']) reading(text)
    t.same(read.splice(0), ['[1]', '[2]', '[3]', '[4]'])
    t.not(reading('[1]'), first, 'forgotten to make room')
  },
)

const sentToSqlite: string[] = []
watchStatements((text) => sentToSqlite.push(text))

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'only the end of a session sets its end: SQLite writes every index of what is set',
    async (t) => {
      const world = await openWorld()
      const machine = machineOf(await storeDemoFleet(world))
      const ends = (): number =>
        sentToSqlite.splice(0).filter((text) => /^update "sessions" set .*"ended_at" = /.test(text)).length
      ends()
      const learnt = await boot(world, machine, 'join')
      t.equal(ends(), 0)
      await report(world, machine, learnt.report, 'success')
      t.equal(ends(), world.context.storage.dialect === 'sqlite' ? 1 : 0)
      const [session] = await world.context.storage.db.selectFrom('sessions').selectAll().execute()
      t.match(session, { state: 'ready', stage: 'report', ended_at: world.clock.now().toISOString() })
    },
  )

  await t.test(
    'an effect that throws behind the commit takes back neither the answer nor other effects',
    async (t) => {
      const world = await openWorld()
      const told: unknown[] = []
      const broken = new Error('the meter is broken')
      const context = {
        ...world.context,
        onEffectError: (error: unknown) => told.push(error),
        meter: {
          issued: () => {
            throw broken
          },
          committed: () => {
            throw broken
          },
        } as unknown as NonNullable<typeof world.context.meter>,
      }
      const effects: string[] = []
      const done = await inTransaction(context, async (work) => {
        work.afterCommit(() => {
          throw broken
        })
        work.afterCommit(() => effects.push('the second'))
        await work.event({
          ...{ kind: 'node-armed', node: null, session: null, actor: 'server', source: null, detail: {} },
        })
        return 'committed'
      })
      t.equal(done, 'committed')
      t.same(effects, ['the second'])
      t.same(told, [broken, broken])
      t.equal((await world.events({ kind: 'node-armed' })).length, 1)
    },
  )

  await t.test('a token that is used up, retired or too old is used by no statement', async (t) => {
    const world = await openWorld()
    await boot(world, machineOf(await storeDemoFleet(world)), 'stage1')
    const { storage } = world.context
    const row = await storage.db
      .selectFrom('tokens')
      .selectAll()
      .where('kind', '=', 'handover')
      .executeTakeFirstOrThrow()
    const use = (now: Date, hash = row.secret_hash) =>
      storage.transaction((tx) =>
        consumeToken(tx, {
          ...{ token: row.id as TokenId, hash: hash as ReturnType<typeof hashSecret>, answer: null, now },
        }),
      )
    const now = world.clock.now()
    t.equal(await use(new Date(row.expires_at)), false, 'too old')
    t.equal(await use(now, hashSecret('another')), false, 'another secret')
    await storage.db
      .updateTable('tokens')
      .set({ retired_at: now.toISOString() })
      .where('id', '=', row.id)
      .execute()
    t.equal(await use(now), false, 'retired')
    await storage.db.updateTable('tokens').set({ retired_at: null }).where('id', '=', row.id).execute()
    const all = await Promise.all(Array.from({ length: 10 }, () => use(now)))
    t.equal(all.filter(Boolean).length, 1, 'of ten at once one')
  })
})
