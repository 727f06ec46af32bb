import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openApi } from '../../src/cli/api.ts'
import { readCheckpoint } from '../../src/cli/audit/checkpoint.ts'
import { checkRecord } from '../../src/cli/audit/verify.ts'
import { findConnection } from '../../src/cli/connection.ts'
import { authorityOf } from '../../src/domain/checkpoint.ts'
import { type ChainedEvent, genesisHash, hashEvent } from '../../src/domain/event.ts'
import type { ChainBase } from '../../src/domain/trim.ts'
import { makeCheckpoint } from '../../src/fleet/checkpoints.ts'
import { byServer } from '../../src/fleet/operators.ts'
import { trimOldEvents } from '../../src/fleet/retention.ts'
import { type CheckpointSigner, openCheckpointSigner } from '../../src/pki/checkpoint-key.ts'
import { chained } from '../../src/storage/chains.ts'
import { appendEvent } from '../../src/storage/events.ts'
import type { EventRow } from '../../src/storage/tables.ts'
import { forEachDatabase, type OpenWorld, type World } from '../helpers/world.ts'
import { type Installation, openInstallation, type Ran, temporaryFolder } from './helpers/installation.ts'

const day = 86_400

async function append(world: World, node: string, count: number): Promise<void> {
  await world.context.storage.transaction(async (tx) => {
    for (let n = 1; n <= count; n++) {
      await appendEvent(tx, {
        ...{ kind: 'refused', at: world.clock.now(), node, session: null },
        ...{ actor: 'node', source: '192.0.2.1', detail: { n } },
      })
    }
  })
}

interface Kept extends Installation {
  /** The checkpoint with its list, the signed part alone, and the keys: as they were kept elsewhere. */
  readonly files: { readonly whole: string; readonly jws: string; readonly keys: string }
  verify(...flags: string[]): Promise<Ran>
}

/** An installation with two nodes' events, and a checkpoint of it that was kept elsewhere. */
async function withCheckpoint(t: Test, openWorld: OpenWorld): Promise<Kept> {
  const installation = await openInstallation(t, openWorld)
  for (const node of ['a', 'b']) await append(installation.world, node, 5)
  const folder = temporaryFolder(t)
  const files = { whole: join(folder, 'c.json'), jws: join(folder, 'c.jws'), keys: join(folder, 'keys.json') }
  t.equal((await installation.run(['event', 'checkpoint', '--out', files.whole])).exit, 0)
  const last = await installation.run(['event', 'checkpoint', '--seq', 'last'])
  writeFileSync(files.jws, last.stdout)
  t.equal((await installation.run(['event', 'keys', '--out', files.keys])).exit, 0)
  const verify = (...flags: string[]): Promise<Ran> => installation.run(['event', 'verify', ...flags])
  return { ...installation, files, verify }
}

/** What retention runs in: with the root certificate that the installation's server has. */
function retained({ context }: World, dataDir: string): World['context'] {
  return { ...context, rootCertificate: () => readFileSync(join(dataDir, 'ca.crt'), 'utf8') }
}

/** What someone does who can write the database and knows how the hashes are made: a new, sound chain. */
async function makeAnew(
  world: World,
  chain: string,
  edit: (event: ChainedEvent) => ChainedEvent,
): Promise<void> {
  const { db } = world.context.storage
  const rows = await db.selectFrom('events').selectAll().where('chain', '=', chain).orderBy('seq').execute()
  let prevHash = genesisHash
  for (const row of rows) {
    const { hash: _, ...event } = edit({ ...chained(row as unknown as EventRow), prevHash })
    const hash = hashEvent(event)
    const { actor } = event
    await db
      .updateTable('events')
      .set({ actor, prev_hash: prevHash, hash })
      .where('chain', '=', chain)
      .where('seq', '=', event.seq)
      .execute()
    prevHash = hash
  }
  await db.updateTable('chains').set({ head_hash: prevHash }).where('name', '=', chain).execute()
}

async function cutTo(world: World, chain: string, seq: number): Promise<void> {
  const { db } = world.context.storage
  await db.deleteFrom('events').where('chain', '=', chain).where('seq', '>', seq).execute()
  const last = await db
    .selectFrom('events')
    .select('hash')
    .where('chain', '=', chain)
    .where('seq', '=', seq)
    .executeTakeFirst()
  await db
    .updateTable('chains')
    .set({ head_seq: seq, head_hash: last?.hash ?? genesisHash })
    .where('name', '=', chain)
    .execute()
}

async function moveBase(world: World, chain: string, seq: number): Promise<void> {
  const { db } = world.context.storage
  const at = await db
    .selectFrom('events')
    .select('hash')
    .where('chain', '=', chain)
    .where('seq', '=', seq)
    .executeTakeFirstOrThrow()
  await db.deleteFrom('events').where('chain', '=', chain).where('seq', '<=', seq).execute()
  await db
    .updateTable('chains')
    .set({ base_seq: seq, base_hash: at.hash })
    .where('name', '=', chain)
    .execute()
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'against a checkpoint kept elsewhere, what the record itself cannot show is found',
    async (t) => {
      const table: [
        what: string,
        tamper: (world: World) => Promise<unknown>,
        fault: string,
        seenByServer?: true,
      ][] = [
        [
          'a chain made anew',
          (world) => makeAnew(world, 'node/a', (e) => ({ ...e, actor: 'x' })),
          'event 5 of chain node/a: edited',
        ],
        ['a tail cut off', (world) => cutTo(world, 'node/a', 3), 'event 4 of chain node/a: cut off'],
        [
          'a chain thrown away',
          async ({ context: { storage } }) => {
            await storage.db.deleteFrom('events').where('chain', '=', 'node/b').execute()
            await storage.db.deleteFrom('chains').where('name', '=', 'node/b').execute()
          },
          'event 1 of chain node/b: removed',
        ],
        [
          'an older state put back',
          async (world) => {
            for (const chain of ['node/a', 'node/b']) await cutTo(world, chain, 0)
            await cutTo(world, 'system', 1)
          },
          'event 1 of chain node/a: cut off',
        ],
        [
          'a deletion passed off as retention',
          (world) => moveBase(world, 'node/a', 4),
          'event 4 of chain node/a: trimmed without a word',
        ],
        [
          'all of a node passed off as retention',
          async (world) => {
            await append(world, 'a', 2)
            await moveBase(world, 'node/a', 6)
          },
          'event 6 of chain node/a: trimmed too early',
        ],
        [
          'an event edited',
          ({ context: { storage } }) =>
            storage.db
              .updateTable('events')
              .set({ actor: 'x' })
              .where('chain', '=', 'node/b')
              .where('seq', '=', 2)
              .execute(),
          'event 2 of chain node/b: edited',
          true,
        ],
      ]
      const kept = await withCheckpoint(t, openWorld)
      const { files, verify } = kept
      await append(kept.world, 'a', 3)
      await append(kept.world, 'new', 1)
      for (const flags of [[], ['--full']]) {
        for (const file of [files.whole, files.jws]) {
          const sound = await verify('--checkpoint', file, '--key', files.keys, ...flags)
          t.match(sound, {
            exit: 0,
            stdout: /^signed: checkpoint 1 of .*\nkey .*, from the file\nsound: 16 events in 4 chains\n$/,
          })
        }
      }
      for (const [what, tamper, fault, seenByServer] of table) {
        const { world, files, verify } = await withCheckpoint(t, openWorld)
        await tamper(world)
        t.equal((await verify()).exit, seenByServer === true ? 1 : 0, `${what}: the server alone`)
        for (const flags of [[], ['--full']]) {
          const { exit, stderr } = await verify('--checkpoint', files.whole, '--key', files.keys, ...flags)
          t.equal(exit, 1)
          t.match(stderr, `error: the event log was changed: ${fault}\n`, `${what} ${flags}`)
        }
      }
    },
  )

  await t.test('a deletion with a forged word of retention is found', async (t) => {
    const signed = (signer: CheckpointSigner, { world, dataDir }: Kept, base: ChainBase): Promise<string> =>
      signer.signTrim({
        ...{ issuer: world.context.settings.publicUrl, bases: [base] },
        authority: authorityOf(retained(world, dataDir).rootCertificate()),
        ...{ at: '2026-11-21T00:00:00.000Z', cutoff: '2026-10-21T00:00:00.000Z' },
      })
    const table: [
      what: string,
      forge: (kept: Kept, base: ChainBase) => Promise<string | undefined>,
      fault: string,
    ][] = [
      ['no signature', async () => undefined, 'trimmed without a signature'],
      [
        'a checkpoint in its place',
        async ({ files }) => readFileSync(files.jws, 'utf8').trim(),
        'trimmed without a signature',
      ],
      [
        "another installation's, by a key of its own",
        async (kept, base) => {
          const folder = temporaryFolder(t)
          mkdirSync(join(folder, 'pki'))
          return signed(openCheckpointSigner(folder), kept, base)
        },
        'trimmed under an unknown key',
      ],
      [
        'one of the right key for an earlier beginning',
        (kept, base) => signed(openCheckpointSigner(kept.dataDir), kept, { ...base, seq: 4 }),
        'trimmed without a word',
      ],
      [
        'one of the right key for another chain',
        (kept, base) => signed(openCheckpointSigner(kept.dataDir), kept, { ...base, chain: 'node/b' }),
        'trimmed without a word',
      ],
    ]
    for (const [what, forge, fault] of table) {
      const kept = await withCheckpoint(t, openWorld)
      const { world, files, verify } = kept
      const flags = ['--checkpoint', files.whole, '--key', files.keys]
      await moveBase(world, 'node/a', 5) // all that the checkpoint covers
      t.match((await verify(...flags)).stderr, 'event 5 of chain node/a: trimmed without a word\n')
      const { base_hash: hash } = await world.context.storage.db
        .selectFrom('chains')
        .select('base_hash')
        .where('name', '=', 'node/a')
        .executeTakeFirstOrThrow()
      const jws = await forge(kept, { chain: 'node/a', seq: 5, hash })
      await world.context.storage.transaction((tx) =>
        appendEvent(tx, {
          ...{ kind: 'events-trimmed', at: world.clock.now(), node: null, session: null },
          ...{ actor: 'server', source: null },
          detail: { bases: { 'node/a': 5 }, ...(jws === undefined ? {} : { jws }) },
        }),
      )
      for (const mode of [[], ['--full']]) {
        const { exit, stderr } = await verify(...flags, ...mode)
        t.equal(exit, 1, what)
        t.match(stderr, `error: the event log was changed: event 5 of chain node/a: ${fault}\n`, what)
      }
    }
  })

  await t.test('a checkpoint that is not what it should be is refused, and says why', async (t) => {
    const { world, files, verify, run, dataDir } = await withCheckpoint(t, openWorld)
    const other = await withCheckpoint(t, openWorld)
    const folder = temporaryFolder(t)
    const changed = (name: string, file: string, from: string | RegExp, to: string): string => {
      const text = readFileSync(file, 'utf8').replace(from, to)
      t.not(text, readFileSync(file, 'utf8'))
      writeFileSync(join(folder, name), text)
      return join(folder, name)
    }
    const table: [what: string, flags: string[], message: RegExp][] = [
      ['no file', ['--checkpoint', join(folder, 'none')], /error: there is no .*none\n/],
      [
        'another file',
        ['--checkpoint', files.keys],
        /error: not a checkpoint: it is not of the format pawl.checkpoint\/v1\n/,
      ],
      [
        'a list that was edited',
        [
          '--checkpoint',
          changed('list', files.whole, '["node/a",0,5,', '["node/a",0,4,'),
          '--key',
          files.keys,
        ],
        /error: the list in .*list is not the one that was signed\n/,
      ],
      [
        'a statement that was edited',
        ['--checkpoint', changed('claims', files.jws, /\.eyJ.{8}/, '.eyJpc3MiOiJo'), '--key', files.keys],
        /error: the signature of .*claims is not right\n/,
      ],
      [
        'no signature',
        [
          '--checkpoint',
          changed(
            'unsigned',
            files.jws,
            /^[^.]+/,
            Buffer.from('{"alg":"none","typ":"pawl-checkpoint+jws"}').toString('base64url'),
          ),
          '--key',
          files.keys,
        ],
        /error: the signature of .*unsigned is not right\n/,
      ],
      [
        'a key that is not trusted',
        ['--checkpoint', files.whole, '--key', other.files.keys],
        /error: .*c.json was signed with a key that is none of those .*keys.json holds\n/,
      ],
      [
        'keys that are none',
        ['--checkpoint', files.whole, '--key', files.whole],
        /error: .*c.json is not a JWK Set\n/,
      ],
      ['keys alone', ['--key', files.keys], /error: --key without --checkpoint\n/],
    ]
    for (const [what, flags, message] of table) {
      const { exit, stderr } = await verify(...flags)
      t.equal(exit, what === 'keys alone' ? 2 : 1, what)
      t.match(stderr, message, what)
    }
    const elsewhere = await makeCheckpoint(world.context, openCheckpointSigner(dataDir), byServer)
    writeFileSync(join(folder, 'elsewhere'), elsewhere.jws)
    t.match(
      (await verify('--checkpoint', join(folder, 'elsewhere'))).stderr,
      /error: .*elsewhere is of another installation/,
    )
    // A root of before a rotation is this installation's too.
    const retired = join(dataDir, 'pki', 'retired', '0123456789abcdef')
    mkdirSync(retired, { recursive: true })
    writeFileSync(join(retired, 'ca.crt'), world.context.rootCertificate())
    t.equal((await verify('--checkpoint', join(folder, 'elsewhere'))).exit, 0, 'of a root that was retired')
    rmSync(join(dataDir, 'pki', 'retired'), { recursive: true })
    await world.context.storage.db.deleteFrom('checkpoint_heads').execute()
    t.match(
      (await verify('--checkpoint', files.jws)).stderr,
      /error: the server keeps the list of checkpoint 1 no longer\n/,
    )
    t.equal(
      (await verify('--checkpoint', files.whole)).exit,
      0,
      'the file with its list needs no server for it',
    )
    await world.context.storage.db.deleteFrom('checkpoints').execute()
    t.match(
      (await verify('--checkpoint', files.jws)).stderr,
      /error: the server has no checkpoint 1, and it signed one\n/,
    )
    t.match(await run(['event', 'checkpoint', '--out', files.whole]), {
      exit: 1,
      stderr: /c.json is there already/,
    })
  })

  await t.test('a server that lies is found by --full, which computes every hash itself', async (t) => {
    const { world, files, dataDir } = await withCheckpoint(t, openWorld)
    const edit = world.context.storage.db.updateTable('events').set({ actor: 'x' })
    await edit.where('chain', '=', 'node/b').where('seq', '=', 2).execute()
    const connection = await findConnection({}, dataDir)
    const honest = openApi(connection)
    t.teardown(() => honest.close())
    const liar: typeof honest = {
      ...honest,
      get: async <Answer>(path: string, query?: object) =>
        path === '/events/verify'
          ? ({ ok: true, chains: 3, events: 12, faults: [], note: '' } as Answer)
          : honest.get<Answer>(path, query as never),
    }
    const source = { file: files.whole, keyFile: files.keys, ca: connection.ca }
    const check = async (full: boolean) =>
      checkRecord(liar, {
        checkpoint: await readCheckpoint(liar, source),
        archives: [],
        full,
        now: world.clock.now(),
      })
    t.match(await check(false), { ok: true }, 'by default the links are the word of the server')
    t.match(await check(true), { ok: false, faults: [{ chain: 'node/b', seq: 2, fault: 'edited' }] })
  })

  await t.test('archives and record are one chain after retention', async (t) => {
    const { world, run, files, verify, dataDir } = await withCheckpoint(t, openWorld)
    const signer = openCheckpointSigner(dataDir)
    const folder = temporaryFolder(t)
    const [early, late] = [join(folder, 'early.ndjson'), join(folder, 'late.ndjson')]
    world.clock.advance(20 * day)
    await append(world, 'a', 4)
    t.match(await run(['event', 'export', '--until', '10d', '--out', early]), {
      stdout: /early.ndjson: 12 events of 3 chains\n/,
    })
    t.match(await run(['event', 'export', '--out', late]), { stdout: /late.ndjson: 16 events of 3 chains\n/ })
    t.match(await run(['event', 'export', '--out', late]), {
      exit: 1,
      stderr: /late.ndjson is there already/,
    })
    t.equal((await run(['event', 'checkpoint'])).exit, 0)
    world.clock.advance(20 * day)
    t.match(await trimOldEvents(retained(world, dataDir), signer, 30), { events: 12 })
    await append(world, 'a', 1)
    const flags = ['--checkpoint', files.whole, '--key', files.keys]
    const old = await verify(...flags)
    t.match(old, { exit: 0, stdout: /sound/ })
    for (const mode of [[], ['--full']]) {
      for (const archives of [[early], [late], [early, late]]) {
        const found = await verify(...flags, ...mode, ...archives.flatMap((file) => ['--archive', file]))
        t.match(found, { exit: 0, stdout: /in archives\n/ })
        t.notMatch(found.stderr, /proves nothing/)
      }
    }
    world.clock.advance(40 * day)
    await run(['event', 'checkpoint'])
    await trimOldEvents(retained(world, dataDir), signer, 30)
    const beyond = await verify(...flags)
    t.match(beyond, {
      exit: 0,
      stderr: /3 chains trimmed beyond this checkpoint, .*: of those it proves nothing/,
    })
    const tampered = (name: string, edit: (lines: string[]) => string[]): string => {
      writeFileSync(
        join(folder, name),
        edit(readFileSync(late, 'utf8').trim().split('\n'))
          .map((line) => `${line}\n`)
          .join(''),
      )
      return join(folder, name)
    }
    const table: [what: string, file: string, message: RegExp][] = [
      [
        'an archive that was cut off',
        tampered('cut', (lines) => lines.slice(0, -1)),
        /error: .*cut:\d+: it was cut off/,
      ],
      [
        'one with an event edited',
        tampered('edited', (lines) =>
          lines.map((line, n) => (n === 2 ? line.replace('192.0.2.1', '192.0.2.9') : line)),
        ),
        /error: the event log was changed: event \d of chain node\/a: edited/,
      ],
      [
        'one with an event left out',
        tampered('left', (lines) => [...lines.slice(0, 2), ...lines.slice(3, -1), '{"end":15}']),
        /error: the event log was changed: event 2 of chain node\/a: missing/,
      ],
      ['another file', files.keys, /error: .*keys.json:1: it is not/],
      [
        'an archive that ends too early',
        early,
        /error: the event log was changed: event 6 of chain node\/a: missing/,
      ],
    ]
    for (const [what, file, message] of table) {
      const { exit, stderr } = await verify('--archive', file)
      t.equal(exit, 1, what)
      t.match(stderr, message, what)
    }
  })
})
