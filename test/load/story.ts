import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import Sqlite from 'better-sqlite3'
import pg from 'pg'
import type { Test } from 'tap'
import type { BootContext } from '../../src/boot/context.ts'
import { openRandomPool } from '../../src/boot/random-pool.ts'
import { redeem } from '../../src/boot/redeem.ts'
import { takeReport } from '../../src/boot/report.ts'
import { serveHandover } from '../../src/boot/serve-handover.ts'
import { serveStage1 } from '../../src/boot/serve-stage1.ts'
import { hashSecret, parseToken } from '../../src/domain/token.ts'
import { consumeToken } from '../../src/storage/redemption.ts'
import { demoProfile, publishImage, storeNode, storeProfile } from '../helpers/fleet.ts'
import { startPostgres } from '../helpers/postgres.ts'
import { openAt, servedTemplates, type World } from '../helpers/world.ts'

/**
 * Whole control-plane boots without the network: what serving costs beside TLS and HTTP. Each machine asks stage 1, opens its
 * handover, redeems three tokens and reports, each step a durable transaction. Run with: [--database sqlite|postgres]
 * [--boots N] [--at-once N] [--json], with --redemptions for the single-use update alone, with --statements for what is sent.
 */

/** The steps of a boot, in order. */
export const storySteps = ['stage1', 'handover', 'stage2', 'stage3', 'join', 'report'] as const
export type StoryStep = (typeof storySteps)[number]

/** How the story is run. */
export interface StoryOptions {
  readonly database: 'sqlite' | 'postgres'
  readonly boots: number
  /** How many machines boot at a time. */
  readonly atOnce: number
}

/** What it came to. CPU is this process's, so on PostgreSQL it leaves the database's own out. */
export interface StoryFigures {
  readonly bootsPerSecond: number
  readonly cpuMillisecondsPerBoot: number
  /** For each step: CPU milliseconds, with as many in flight as were asked for. */
  readonly cpuMilliseconds: Readonly<Record<StoryStep, number>>
  /** For each step, how long one waited for it: median and 99th percentile, milliseconds. */
  readonly latency: Readonly<Record<StoryStep, { readonly p50: number; readonly p99: number }>>
}

interface Machine {
  readonly host: string
  readonly source: string
  readonly fields: Readonly<Record<string, string>>
  tokens: Partial<Record<'handover' | 'stage2' | 'stage3' | 'join' | 'report', string>>
}

/** A world with a fleet, and what closes it. */
export interface StoryWorld {
  readonly context: BootContext
  readonly machines: readonly Machine[]
  close(): Promise<void>
}

/** Opens a database of its own, or a new one at `place`, with so many registered machines. */
export async function openStory(
  database: StoryOptions['database'],
  count: number,
  place?: string,
): Promise<StoryWorld> {
  const closing: (() => unknown)[] = []
  const t = { teardown: (work: () => unknown) => closing.push(work) } as unknown as Test // all that is used of it
  const folder = mkdtempSync(join(tmpdir(), 'pawl-story-'))
  const own = async (): Promise<string> =>
    database === 'sqlite' ? join(folder, 'pawl.db') : (await startPostgres()).createDatabase()
  const location = place ?? (await own())
  const opened = await openAt(t, location, { templates: servedTemplates() })
  const context: BootContext = { ...opened.context, clock: () => new Date(), randomBytes: openRandomPool() }
  const world: World = { ...opened, context }
  await publishImage(world, 'small@1', 'a', false)
  await publishImage(world, 'full@1', 'b')
  await storeProfile(world, {
    ...demoProfile,
    boot: { stage2: 'small@1', stage3: 'full@1', join: { kind: 'none' } },
    reinstall: undefined,
  })
  const machines = await Promise.all(Array.from({ length: count }, (_, n) => register(world, n)))
  const close = async (): Promise<void> => {
    for (const work of closing.reverse()) await work()
    rmSync(folder, { recursive: true, force: true })
  }
  return { context, machines, close }
}

async function register(world: World, n: number): Promise<Machine> {
  const host = `node${n}.example.test`
  const hex = n.toString(16).padStart(8, '0')
  const secret = await storeNode(world, { name: host })
  const fields = {
    ...{ uuid: `${hex}-2222-3333-4444-555555555555`, mac: `52-54-${hex.match(/../g)?.join('-')}` },
    ...{ serial: `SN${n}`, platform: 'efi', version: '2.0.0', buildarch: 'x86_64', secret },
  }
  return { host, source: `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`, fields, tokens: {} }
}

/** Takes one step of one machine's boot. */
export async function takeStep(context: BootContext, machine: Machine, step: StoryStep): Promise<void> {
  const { host, source, fields, tokens } = machine
  const asking = { host, source, request: step }
  switch (step) {
    case 'stage1': {
      const answer = await serveStage1(context, { ...asking, fields, format: 'ipxe' })
      tokens.handover = /handover\?k=([A-Za-z0-9_-]{44})/.exec(answer?.body ?? '')?.[1] ?? ''
      return
    }
    case 'handover':
      Object.assign(
        tokens,
        JSON.parse(await serveHandover(context, { ...asking, token: tokens.handover })).tokens,
      )
      return
    case 'report':
      await takeReport(context, {
        ...asking,
        ...{ token: tokens.report, key: newKey(), message: 'success', final: false },
      })
      return
    default: {
      const text = await redeem(context, { ...asking, stage: step, token: tokens[step], key: newKey() })
      const answer = JSON.parse(text)
      Object.assign(tokens, answer.handover?.tokens ?? answer.tokens ?? {})
    }
  }
}

function newKey(): string {
  return randomBytes(24).toString('base64url')
}

/** Runs one step for every machine, so many at a time; returns how long each waited, in milliseconds. */
export async function takeStepOfAll(
  { context, machines }: Pick<StoryWorld, 'context' | 'machines'>,
  step: StoryStep,
  atOnce: number,
): Promise<number[]> {
  const waited: number[] = []
  const queue = machines.values()
  const lane = async (): Promise<void> => {
    for (const machine of queue) {
      const began = performance.now()
      await takeStep(context, machine, step)
      waited.push(performance.now() - began)
      // A request comes by the event loop, not straight behind another's answer.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  await Promise.all(Array.from({ length: atOnce }, lane))
  return waited
}

/** Boots every machine of a fresh database once. */
export async function runStory({ database, boots, atOnce }: StoryOptions): Promise<StoryFigures> {
  const world = await openStory(database, boots)
  try {
    const latency: Partial<Record<StoryStep, { p50: number; p99: number }>> = {}
    const cpu: Partial<Record<StoryStep, number>> = {}
    const began = performance.now()
    for (const step of storySteps) {
      const before = process.cpuUsage()
      const waited = (await takeStepOfAll(world, step, atOnce)).sort((a, b) => a - b)
      const { user, system } = process.cpuUsage(before)
      cpu[step] = (user + system) / 1000 / boots
      latency[step] = { p50: waited[boots >> 1] ?? 0, p99: waited[Math.floor(boots * 0.99)] ?? 0 }
    }
    const seconds = (performance.now() - began) / 1000
    const all = cpu as Record<StoryStep, number> // every step was taken
    return {
      bootsPerSecond: boots / seconds,
      cpuMillisecondsPerBoot: storySteps.reduce((sum, step) => sum + all[step], 0),
      cpuMilliseconds: all,
      latency: latency as StoryFigures['latency'],
    }
  } finally {
    await world.close()
  }
}

/** Durable redemptions alone: the conditional update that makes a token single-use, in a transaction each. */
export interface RedemptionFigures {
  /** As many as it takes, so many in flight. */
  readonly perSecond: number
  readonly cpuMillisecondsEach: number
  /** Waiting at half that load, in milliseconds. */
  readonly atHalfLoad: { readonly p50: number; readonly p99: number }
}

/** Redeems so many tokens of a fresh database, first as fast as it goes, then as many at half that rate. */
export async function runRedemptions(
  database: StoryOptions['database'],
  tokens: number,
  atOnce: number,
): Promise<RedemptionFigures> {
  const world = await openStory(database, tokens * 2)
  try {
    await takeStepOfAll(world, 'stage1', 64)
    const { storage, clock } = world.context
    const all = world.machines.map(({ tokens: { handover = '' } }) => parseToken(handover))
    const redeemOne = async (at: number): Promise<number> => {
      const token = all[at]
      if (token === undefined) throw new Error('stage 1 handed out no token')
      const began = performance.now()
      const won = await storage.transaction((tx) =>
        consumeToken(tx, { token: token.id, hash: hashSecret(token.secret), answer: null, now: clock() }),
      )
      if (!won) throw new Error('a token was used before')
      return performance.now() - began
    }
    const before = process.cpuUsage()
    const began = performance.now()
    let next = 0
    const lane = async (): Promise<void> => {
      while (next < tokens) await redeemOne(next++)
    }
    await Promise.all(Array.from({ length: atOnce }, lane))
    const perSecond = tokens / ((performance.now() - began) / 1000)
    const { user, system } = process.cpuUsage(before)
    const waited = await paced(tokens, perSecond / 2, (n) => redeemOne(tokens + n))
    return {
      perSecond,
      cpuMillisecondsEach: (user + system) / 1000 / tokens,
      atHalfLoad: { p50: waited[tokens >> 1] ?? 0, p99: waited[Math.floor(tokens * 0.99)] ?? 0 },
    }
  } finally {
    await world.close()
  }
}

/** Begins so many at a rate, whether or not those before have ended; how long each took, in order of size. */
export async function paced(
  count: number,
  perSecond: number,
  one: (n: number) => Promise<number>,
): Promise<number[]> {
  const running: Promise<number>[] = []
  const began = performance.now()
  while (running.length < count) {
    const due = Math.min(count, ((performance.now() - began) / 1000) * perSecond)
    while (running.length < due) {
      // One that could not be begun in time has waited since.
      const late = performance.now() - began - (running.length * 1000) / perSecond
      running.push(one(running.length).then((waited) => waited + late))
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
  return (await Promise.all(running)).sort((a, b) => a - b)
}

/** How many statements each step sends: on PostgreSQL each is a round trip. Counted on one boot, the second. */
export async function countStatements(
  database: StoryOptions['database'],
): Promise<Record<StoryStep, string[]>> {
  const world = await openStory(database, 2)
  const counts: Partial<Record<StoryStep, string[]>> = {}
  try {
    const [first, second] = world.machines
    if (first === undefined || second === undefined) throw new Error('two machines were asked for')
    for (const step of storySteps) await takeStep(world.context, first, step)
    for (const step of storySteps) {
      const seen: string[] = []
      const stop = database === 'sqlite' ? watchSqlite(seen) : watchPostgres(seen)
      await takeStep(world.context, second, step)
      stop()
      counts[step] = seen
    }
    return counts as Record<StoryStep, string[]> // every step was taken
  } finally {
    await world.close()
  }
}

function watchSqlite(seen: string[]): () => void {
  const memory = new Sqlite(':memory:')
  const statement = Object.getPrototypeOf(memory.prepare('select 1'))
  memory.close()
  const { run, all } = statement
  const watching = (real: (...values: unknown[]) => unknown) =>
    function (this: Sqlite.Statement, ...values: unknown[]): unknown {
      seen.push(this.source)
      return real.apply(this, values)
    }
  Object.assign(statement, { run: watching(run), all: watching(all) })
  return () => Object.assign(statement, { run, all })
}

function watchPostgres(seen: string[]): () => void {
  const { query } = pg.Client.prototype
  pg.Client.prototype.query = function (this: pg.Client, ...values: unknown[]): unknown {
    const [first] = values as [string | { text: string }]
    seen.push(typeof first === 'string' ? first : first.text)
    return Reflect.apply(query, this, values)
  } as typeof query
  return () => {
    pg.Client.prototype.query = query
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      database: { type: 'string', default: 'sqlite' },
      boots: { type: 'string', default: '1000' },
      'at-once': { type: 'string', default: '32' },
      redemptions: { type: 'boolean', default: false },
      statements: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  })
  const database = values.database === 'postgres' ? 'postgres' : 'sqlite'
  const [boots, atOnce] = [Number(values.boots), Number(values['at-once'])]
  if (values.redemptions) {
    process.stdout.write(`${JSON.stringify(await runRedemptions(database, boots, atOnce), null, 2)}\n`)
    return
  }
  if (values.statements) {
    for (const [step, seen] of Object.entries(await countStatements(database)))
      process.stdout.write(`${step}: ${seen.length}\n${seen.map((text) => `  ${text}\n`).join('')}`)
    return
  }
  const figures = await runStory({ database, boots, atOnce })
  if (values.json) {
    process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`)
    return
  }
  const { bootsPerSecond, cpuMillisecondsPerBoot, cpuMilliseconds, latency } = figures
  process.stdout.write(
    `${database}: ${bootsPerSecond.toFixed(0)} boots/s, ${cpuMillisecondsPerBoot.toFixed(2)} ms CPU a boot\n`,
  )
  for (const step of storySteps) {
    const { p50, p99 } = latency[step]
    process.stdout.write(
      `${step.padEnd(9)} ${cpuMilliseconds[step].toFixed(3)} ms CPU, waited ${p50.toFixed(1)} ms (p99 ${p99.toFixed(1)})\n`,
    )
  }
}

if (import.meta.main) {
  await main()
  process.exit(0) // PostgreSQL, where one was started, ends with the process
}
