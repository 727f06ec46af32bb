import { postgresAbsent } from '../helpers/postgres.ts'
import { type Comparison, percentile, times } from './measure.ts'
import {
  openStory,
  paced,
  type RedemptionFigures,
  runRedemptions,
  type StoryWorld,
  takeStep,
  takeStepOfAll,
} from './story.ts'

const machines = 2000
/** Of them those that go first, unmeasured: code that runs for the first time is read and compiled. */
const warming = 500
/** The redemption alone: the statement that makes a token single-use, in a transaction each, durable before it is told. */
export const redemptions: Comparison = {
  name: 'token redemption, SQLite',
  unit: 'per second',
  better: 'more',
  sides: ['Pawl'],
  rows: [
    { name: 'alone, 256 at once', target: { of: 'value', bound: 5000 } },
    { name: 'the whole redeemed stage 2, 256 at once' },
  ],
  absent: () => undefined,
  open: async () => ({
    run: async (_side, row) => (row === 0 ? (await alone('sqlite', 256)).perSecond : rate('sqlite', 256)),
    close: async () => undefined,
  }),
}

/** The same where PostgreSQL keeps the record. Its cluster is a test's, which does not wait for the disk: so this is no claim. */
export const postgresRedemptions: Comparison = {
  ...redemptions,
  name: 'token redemption, PostgreSQL (fsync off)',
  rows: [{ name: 'alone, 64 at once' }, { name: 'the whole redeemed stage 2, 64 at once' }],
  absent: postgresAbsent,
  open: async () => ({
    run: async (_side, row) => (row === 0 ? (await alone('postgres', 64)).perSecond : rate('postgres', 64)),
    close: async () => undefined,
  }),
}

/** How long one waits for its redemption at half of what the machine has just reached. */
export const redemptionLatency: Comparison = {
  name: 'token redemption, SQLite, wait',
  unit: 'ms, 99th percentile',
  better: 'less',
  sides: ['Pawl'],
  rows: [
    { name: 'alone, at half its rate', target: { of: 'value', bound: 20 } },
    { name: 'the whole redeemed stage 2, at half its rate' },
  ],
  absent: () => undefined,
  open: async () => ({
    run: async (_side, row) => (row === 0 ? (await alone('sqlite', 256)).atHalfLoad.p99 : latency()),
    close: async () => undefined,
  }),
}

/** Tokens as they are redeemed by nothing but that statement: as many again at half the rate. */
function alone(database: 'sqlite' | 'postgres', atOnce: number): Promise<RedemptionFigures> {
  return runRedemptions(database, times(machines), atOnce)
}

async function rate(database: 'sqlite' | 'postgres', atOnce: number): Promise<number> {
  return withBegun(database, async (world, measured) => {
    const before = performance.now()
    await takeStepOfAll({ ...world, machines: measured }, 'stage2', atOnce)
    return (measured.length * 1000) / (performance.now() - before)
  })
}

/** Half of the machines as fast as it goes; then the others come at half that rate, however long the ones before wait. */
async function latency(): Promise<number> {
  return withBegun('sqlite', async (world, all) => {
    const [first, others] = [all.slice(0, all.length >> 1), all.slice(all.length >> 1)]
    const before = performance.now()
    await takeStepOfAll({ ...world, machines: first }, 'stage2', 256)
    const perSecond = (first.length * 1000) / (performance.now() - before)
    const waited = await paced(others.length, perSecond / 2, (n) => timed(world, others[n]))
    return percentile(waited, 99)
  })
}

async function timed(
  { context }: StoryWorld,
  machine: StoryWorld['machines'][number] | undefined,
): Promise<number> {
  if (machine === undefined) throw new Error('there are no more machines')
  const began = performance.now()
  await takeStep(context, machine, 'stage2')
  return performance.now() - began
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
