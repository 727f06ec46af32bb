import { postgresAbsent } from '../helpers/postgres.ts'
import { type Comparison, percentile, times } from './measure.ts'
import { openStory, type StoryWorld, takeStep, takeStepOfAll } from './story.ts'

const machines = 2000
/** Of them those that go first, unmeasured: code that runs for the first time is read and compiled. */
const warming = 500
/** Half of what is to be reached. */
const pacePerSecond = 2500

/**
 * Token redemptions with all that belongs to one (evidence, transition, next token, answer, event), durable before they are
 * answered, without the network. In this process: what counts is how many a second there are.
 */
export const redemptions: Comparison = {
  name: 'token redemption, SQLite',
  unit: 'per second',
  better: 'more',
  sides: ['Pawl'],
  rows: [{ name: '256 at once', target: { of: 'value', bound: 5000 } }],
  absent: () => undefined,
  open: async () => ({ run: () => rate('sqlite', 256), close: async () => undefined }),
}

/** The same where PostgreSQL keeps the record. Its cluster is a test's, which does not wait for the disk: so this is no claim. */
export const postgresRedemptions: Comparison = {
  ...redemptions,
  name: 'token redemption, PostgreSQL (fsync off)',
  rows: [{ name: '64 at once' }],
  absent: postgresAbsent,
  open: async () => ({ run: () => rate('postgres', 64), close: async () => undefined }),
}

/** How long one waits for its redemption at half the load. */
export const redemptionLatency: Comparison = {
  name: 'token redemption, SQLite, wait',
  unit: 'ms, 99th percentile',
  better: 'less',
  sides: ['Pawl'],
  rows: [{ name: `${pacePerSecond} a second`, target: { of: 'value', bound: 20 } }],
  absent: () => undefined,
  open: async () => ({ run: latency, close: async () => undefined }),
}

async function rate(database: 'sqlite' | 'postgres', atOnce: number): Promise<number> {
  return withBegun(database, async (world, measured) => {
    const before = performance.now()
    await takeStepOfAll({ ...world, machines: measured }, 'stage2', atOnce)
    return (measured.length * 1000) / (performance.now() - before)
  })
}

/** They come at their pace, however long the ones before wait. */
async function latency(): Promise<number> {
  return withBegun('sqlite', async ({ context }, all) => {
    const waited: number[] = []
    const running: Promise<void>[] = []
    const began = performance.now()
    for (const [index, machine] of all.entries()) {
      const due = began + (index * 1000) / pacePerSecond
      while (performance.now() < due) await new Promise((resolve) => setTimeout(resolve, 1))
      running.push(takeStep(context, machine, 'stage2').then(() => void waited.push(performance.now() - due)))
    }
    await Promise.all(running)
    return percentile(waited, 99)
  })
}

async function withBegun<T>(
  database: 'sqlite' | 'postgres',
  work: (world: StoryWorld, measured: StoryWorld['machines']) => Promise<T>,
): Promise<T> {
  const world = await openStory(database, times(machines))
  try {
    for (const step of ['stage1', 'handover'] as const) await takeStepOfAll(world, step, 32)
    const first = times(warming)
    await takeStepOfAll({ ...world, machines: world.machines.slice(0, first) }, 'stage2', 64)
    return await work(world, world.machines.slice(first))
  } finally {
    await world.close()
  }
}
