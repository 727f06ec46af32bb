import pino from 'pino'
import t, { type Test } from 'tap'
import { PawlError } from '../../src/errors.ts'
import { type Crew, type CrewTimings, openCrew, type WorkerProcess } from '../../src/workers/crew.ts'
import type { FromKeeper, FromWorker } from '../../src/workers/messages.ts'
import { packError } from '../../src/workers/packed-error.ts'

/** A process that does what the test says. */
interface Played {
  readonly worker: number
  readonly killed: () => boolean
  readonly told: FromKeeper<unknown>[]
  say(message: FromWorker): void
  end(): void
}

interface World {
  readonly crew: Crew
  readonly processes: Played[]
  readonly lines: Record<string, unknown>[]
  readonly refused: unknown[]
  /** Resolves when so many processes were started in all. */
  started(count: number): Promise<void>
  now: number
}

const quick: CrewTimings = {
  firstPause: 4,
  longestPause: 16,
  longLife: 1000,
  mayBegin: 60_000,
  maySleep: 30_000,
  mayEnd: 5,
  look: 5,
  patience: 5,
}

/** A crew of played processes, which listen at once unless `begins` says otherwise. */
function world(t: Test, count: number, begins: (process: Played) => void = listen, timings = {}): World {
  const processes: Played[] = []
  const lines: Record<string, unknown>[] = []
  const refused: unknown[] = []
  let wake = (): void => {}
  const crew = openCrew({
    count,
    timings: { ...quick, ...timings },
    now: () => it.now,
    setup: (worker) => ({ worker }),
    sides: () => ({}),
    story: () => undefined,
    refusals: { record: (facts) => void refused.push(facts) },
    log: pino({ base: null }, { write: (line: string) => void lines.push(JSON.parse(line)) }),
    fork: (worker) => {
      const { process, played } = play(worker)
      processes.push(played)
      setImmediate(() => begins(played))
      wake()
      return process
    },
  })
  const started = async (wanted: number): Promise<void> => {
    while (processes.length < wanted) await new Promise<void>((resolve) => (wake = resolve))
  }
  const it: World = { crew, processes, lines, refused, started, now: 0 }
  t.teardown(async () => {
    const closed = crew.close(0)
    for (const process of processes) process.end()
    await closed
  })
  return it
}

function play(worker: number): { process: WorkerProcess; played: Played } {
  const told: FromKeeper<unknown>[] = []
  let hear: (message: unknown) => void = () => {}
  let exit: (how: { code: number | null; signal: string | null }) => void = () => {}
  let killed = false
  const end = (): void => exit({ code: null, signal: 'SIGKILL' })
  return {
    process: {
      id: 100 + worker,
      send(message, done) {
        told.push(...(message as { pawl: FromKeeper<unknown>[] }).pawl)
        done()
      },
      onMessage: (listener) => {
        hear = listener
      },
      onExit: (listener) => {
        exit = listener
      },
      kill() {
        killed = true
        end()
      },
    },
    played: { worker, told, killed: () => killed, say: (message) => hear({ pawl: [message] }), end },
  }
}

function listen(process: Played): void {
  process.say({ kind: 'ready' })
}

// The crew's own timers keep no process alive.
const alive = setInterval(() => {}, 1000)
t.teardown(() => clearInterval(alive))

/** Resolves when the crew has looked at its workers: they are asked for a sign of life, or gone. */
async function looked({ processes }: World): Promise<void> {
  const pings = (): number => processes[0]?.told.filter(({ kind }) => kind === 'ping').length ?? 0
  const before = pings()
  while (pings() === before && processes[0]?.killed() === false)
    await new Promise((resolve) => setTimeout(resolve, quick.look))
}

/** They are told whenever they are looked at. */
const withoutPings = (told: FromKeeper<unknown>[]): unknown[] => told.filter(({ kind }) => kind !== 'ping')

const pauses = (lines: Record<string, unknown>[]): unknown[] =>
  lines.filter(({ msg }) => String(msg).startsWith('a worker ended')).map((line) => line.pauseMilliseconds)

t.test('does not start with a worker that cannot begin, and says why', async (t) => {
  const error = packError(new PawlError('usage', 'cannot listen on 127.0.0.1 port 1 (EADDRINUSE)'))
  const { crew } = world(t, 2, (process) => process.say({ kind: 'failed', error }))
  await t.rejects(crew.start(), { code: 'usage', message: /EADDRINUSE/ })
  const other = world(t, 2, (process) => process.end())
  await t.rejects(other.crew.start(), { code: 'internal', message: /ended before it listened/ })
})

t.test('is started when all listen', async (t) => {
  const { crew, processes } = world(t, 3)
  await crew.start()
  t.same(
    crew.members().map(({ worker, processId, listens, restarts }) => [worker, processId, listens, restarts]),
    [
      [1, 101, true, 0],
      [2, 102, true, 0],
      [3, 103, true, 0],
    ],
  )
  t.same(processes[0]?.told[0], { kind: 'begin', setup: { worker: 1 } })
})

t.test(
  'a worker that ends again and again waits longer each time, up to a bound; the others go on',
  async (t) => {
    const it = world(t, 2)
    await it.crew.start()
    for (let ends = 1; ends <= 6; ends += 1) {
      it.processes.findLast(({ worker }) => worker === 1)?.end()
      await it.started(2 + ends)
    }
    t.same(pauses(it.lines), [0, 4, 8, 16, 16, 16])
    t.same(
      it.processes.map(({ worker }) => worker),
      [1, 2, 1, 1, 1, 1, 1, 1],
    )
    it.now += quick.longLife
    it.processes.at(-1)?.end()
    await it.started(9)
    t.equal(pauses(it.lines).at(-1), 0, 'one that has lived long is started again at once')
    t.equal(it.crew.members()[0]?.restarts, 7)
  },
)

t.test('a worker that says nothing any more is killed, and another takes its place', async (t) => {
  const it = world(t, 1)
  await it.crew.start()
  it.now += 10 * quick.maySleep
  await looked(it)
  t.notOk(it.processes[0]?.killed(), 'the keeper itself slept: nobody could be heard')
  for (let seconds = 0; seconds <= quick.maySleep; seconds += 10_000) {
    it.now += 10_000
    await looked(it)
  }
  await it.started(2)
  t.ok(it.processes[0]?.killed())
  t.match(it.lines, [{ msg: /says nothing any more/, worker: 1 }, { msg: /started again/ }])
})

t.test('what is told goes to all of them, and their refusals to the one writer', async (t) => {
  const { crew, processes, refused } = world(t, 2)
  await crew.start()
  crew.cut('session1')
  crew.tellSides()
  await new Promise((resolve) => setImmediate(resolve))
  for (const { told } of processes)
    t.same(withoutPings(told).slice(1), [
      { kind: 'cut', session: 'session1' },
      { kind: 'sides', sides: {} },
    ])
  const facts = {
    kind: 'refused',
    cause: 'unknown-node',
    node: null,
    session: null,
    source: '-',
    detail: {},
  } as const
  processes[1]?.say({ kind: 'refusal', facts })
  t.same(refused, [facts])
})

t.test('says what the workers have counted, without one that does not say it in time', async (t) => {
  // The first has the time to say it, however slow this machine is.
  const { crew, processes } = world(t, 3, listen, { patience: 1000 })
  await crew.start()
  const ended: [number, number][] = []
  crew.onEnd((worker, restarts) => ended.push([worker, restarts]))
  const asked = crew.measure()
  await new Promise((resolve) => setImmediate(resolve))
  const [first, , third] = processes
  const question = first?.told.findLast((message) => message.kind === 'measure')
  first?.say({ kind: 'measured', id: question?.kind === 'measure' ? question.id : 0, counts: 'one' })
  third?.end()
  t.same(await asked, [{ worker: 1, restarts: 0, order: 1, counts: 'one' }])
  t.same(ended, [[3, 0]])
})

t.test('stops when all have ended, and kills who does not', async (t) => {
  const { crew, processes } = world(t, 2)
  await crew.start()
  const closed = crew.close(0)
  processes[0]?.end()
  await closed
  t.same(
    processes.map(({ killed }) => killed()),
    [false, true],
  )
  t.same(processes.length, 2, 'nobody is started again')
})
