import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { BootContext, BootSettings } from '../../src/boot/context.ts'
import type { BootEntry } from '../../src/boot/entry.ts'
import { openRefusalLog } from '../../src/boot/refusal-log.ts'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { openSpanLog } from '../../src/boot/span-log.ts'
import { openTransfers } from '../../src/boot/transfers.ts'
import { addSeconds } from '../../src/domain/clock.ts'
import { openStorage } from '../../src/storage/database.ts'
import { type EventFilter, listEvents, verifyChains } from '../../src/storage/events.ts'
import type { EventRow } from '../../src/storage/tables.ts'
import { loadTemplates, type Templates } from '../../src/templates/load.ts'
import { untold } from './operator-events.ts'
import { postgresAbsent, startPostgres } from './postgres.ts'

/** An event with its detail read. */
export type WorldEvent = Omit<EventRow, 'id' | 'detail'> & { id: number; detail: Record<string, unknown> }

/** A whole Pawl without its listeners: a database of its own, a clock that is moved by hand, repeatable randomness. */
export interface World {
  readonly context: BootContext
  readonly clock: { now(): Date; advance(seconds: number): void }
  /** Every event in the order written, refusals included. */
  events(filter?: Partial<EventFilter>): Promise<WorldEvent[]>
  /** The kinds of those events. */
  kinds(filter?: Partial<EventFilter>): Promise<string[]>
  /** Errors that the refusal log could not throw. */
  readonly errors: unknown[]
  /** Every text of every column of every table: to look for secrets in. */
  dump(): Promise<string>
}

/** What a test wants different. */
export interface WorldOptions {
  readonly settings?: Partial<BootSettings>
  readonly templates?: Templates
  /** Who makes join credentials; left out: nobody. */
  readonly joining?: BootContext['joining']
  /** Whether the disk has room left; true by default. */
  readonly hasRoom?: () => Promise<boolean>
  /** False where the test breaks a chain itself; otherwise every chain must verify when the suite ends. */
  readonly verify?: boolean
}

/** Opens a world that closes when the suite ends. */
export type OpenWorld = (options?: WorldOptions) => Promise<World>

/** The settings' defaults, under a public URL of the tests. */
export const testSettings: BootSettings = {
  publicUrl: 'https://boot.example.test:8443',
  tokenLifetimeSeconds: 7200,
  epoxyTokenLifetimeSeconds: 25_200,
  reportTokenLifetimeSeconds: 86_400,
  sessionIdleSeconds: 7200,
  sessionMaxSeconds: 86_400,
  maxStage1PerHour: 20,
  ipxeSyslog: undefined,
  loopStage1s: 3,
  loopWindowSeconds: 3600,
  slowPercent: 150,
  stuckPercent: 300,
  stuckSilenceSeconds: 600,
  maxReinstallAttempts: 3,
  maxReinstallFailures: 6,
  reinstallMarkSeconds: 0,
  repeatStage1Seconds: 30,
  alternatingMachinesSeconds: 86_400,
  enrolmentLifetimeSeconds: 3600,
  maxPendingMachines: 100,
  webhookAllowedNetworks: [],
  extensionAllowedNetworks: [],
  traces: false,
  identity: { issuer: undefined, seconds: 3600, overlapSeconds: 1200, keyDays: 30, keyLeadSeconds: 86_400 },
}

/** Where its machines boot, and by which root. */
export const testEntry: BootEntry = {
  publicUrl: testSettings.publicUrl,
  root: '0123456789abcdef'.repeat(4),
  ca: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
}

/** When every world begins. */
export const worldBegins = new Date('2026-11-21T06:00:00.000Z')

/** Templates that render to their name and values, for suites that are not about scripts. */
export const plainTemplates: Templates = {
  render: (name, values) => `${name} ${JSON.stringify(values)}\n`,
}

/** The templates that are served, for suites that are about scripts; read once. */
export function servedTemplates(): Templates {
  served ??= loadTemplates([new URL('../../ipxe-templates', import.meta.url).pathname])
  return served
}

let served: Templates | undefined

/**
 * Runs a suite once on SQLite and once on PostgreSQL; skips the latter by name where it is not installed. When the suite
 * ends, every event chain of every world it opened must verify.
 */
export async function forEachDatabase(
  t: Test,
  suite: (t: Test, openWorld: OpenWorld) => Promise<void>,
): Promise<void> {
  await t.test('on SQLite', (t) => runSuite(t, suite, sqliteFile))
  const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()
  await t.test('on PostgreSQL', absent === undefined ? {} : { skip: absent }, (t) =>
    runSuite(t, suite, async () => (await startPostgres()).createDatabase()),
  )
}

async function runSuite(
  t: Test,
  suite: (t: Test, openWorld: OpenWorld) => Promise<void>,
  place: (t: Test) => Promise<string>,
): Promise<void> {
  const worlds: { world: World; verify: boolean }[] = []
  await suite(t, async (options = {}) => {
    const world = await openAt(t, await place(t), options)
    worlds.push({ world, verify: options.verify ?? true })
    return world
  })
  for (const { world, verify } of worlds) {
    await world.context.refusals.flush()
    t.same(world.errors, [], 'the refusal log wrote everything')
    if (!verify) continue
    const events = await listEvents(world.context.storage.db, { limit: 100_000 })
    const said = events.filter(({ actor }) => actor.startsWith('operator:'))
    const lacking = said.flatMap(({ kind, detail }) =>
      untold(kind, JSON.parse(detail)).map((key) => `${kind}: ${key}`),
    )
    t.same([...new Set(lacking)], [], "every operator's event says what was before and what is after")
    const { faults } = await verifyChains(world.context.storage.db)
    t.same(faults, [], 'every event chain verifies')
  }
}

/** A database with the newest schema: the migrations run once for the process, and are proved by tests of their own. */
async function sqliteFile(t: Test): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'pawl.db')
  if (migrated === undefined) {
    await (await openStorage(file)).close()
    migrated = readFileSync(file)
  } else writeFileSync(file, migrated)
  return file
}

let migrated: Buffer | undefined

/** Opens a world on a database that is there: two of them are two replicas. */
export async function openAt(t: Test, location: string, options: WorldOptions): Promise<World> {
  const storage = await openStorage(location, { connectMilliseconds: 60_000 })
  t.teardown(() => storage.close())
  let now = worldBegins
  const errors: unknown[] = []
  const clock = (): Date => now
  const refusals = openRefusalLog({
    storage,
    clock,
    hasRoom: options.hasRoom ?? (async () => true),
    onError: (error) => errors.push(error),
  })
  // Written when a timeline is asked for, and not by a clock.
  const spans = openSpanLog({
    storage,
    hasRoom: options.hasRoom ?? (async () => true),
    onError: (error) => errors.push(error),
    later: () => {},
  })
  const entry = { ...testEntry, publicUrl: options.settings?.publicUrl ?? testEntry.publicUrl }
  const context: BootContext = {
    storage,
    clock,
    randomBytes: repeatableRandom(),
    templates: options.templates ?? plainTemplates,
    settings: { ...testSettings, ...options.settings },
    sealer: settingsSealer(Buffer.alloc(32, 7)),
    rootCertificate: () => testEntry.ca,
    entry,
    entries: () => [entry],
    refusals,
    spans,
    transfers: openTransfers(),
    onEffectError: (error) => errors.push(error),
    ...(options.joining === undefined ? {} : { joining: options.joining }),
  }
  const events: World['events'] = async (filter = {}) => {
    await refusals.flush()
    const rows = await listEvents(storage.db, { limit: 10_000, ...filter })
    return rows.map((row) => ({ ...row, id: Number(row.id), detail: JSON.parse(row.detail) }))
  }
  return {
    context,
    clock: {
      now: clock,
      advance: (seconds) => {
        now = addSeconds(now, seconds)
      },
    },
    events,
    kinds: async (filter) => (await events(filter)).map((event) => event.kind),
    errors,
    dump: () => dump(context),
  }
}

/** Bytes that look random and are the same in every run. */
function repeatableRandom(): (size: number) => Uint8Array {
  let calls = 0
  return (size) => {
    calls += 1
    const blocks = Array.from({ length: Math.ceil(size / 32) }, (_, block) =>
      createHash('sha256').update(`${calls}/${block}`).digest(),
    )
    return Buffer.concat(blocks).subarray(0, size)
  }
}

async function dump({ storage }: BootContext): Promise<string> {
  const tables = await storage.db.introspection.getTables()
  const rows = await Promise.all(
    tables.map(({ name }) =>
      storage.db
        .selectFrom(name as 'nodes')
        .selectAll()
        .execute(),
    ),
  )
  return JSON.stringify(rows)
}
