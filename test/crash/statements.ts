import Sqlite from 'better-sqlite3'

type Run = (...values: unknown[]) => unknown

/**
 * Calls `before` ahead of every statement that Pawl runs in this process, and `after` behind it. Statements are prepared once and run many
 * times, so it is their running that is watched.
 */
export function watchStatements(
  before: (text: string) => void,
  after: (text: string) => void = () => {},
): void {
  const memory = new Sqlite(':memory:')
  const prototype = Object.getPrototypeOf(memory.prepare('select 1')) as Record<'run' | 'all', Run>
  memory.close()
  for (const how of ['run', 'all'] as const) {
    const real = prototype[how]
    prototype[how] = function (this: Sqlite.Statement, ...values: unknown[]): unknown {
      before(this.source)
      const result = real.apply(this, values)
      after(this.source)
      return result
    }
  }
}

/**
 * Counts the statements that Pawl runs in this process, and kills it without a warning before statement `n` or behind it; 0 is never.
 *
 * @returns tells how many there were
 */
export function dieAtStatement(at: string, n: number): () => number {
  let statements = 0
  const die = (when: string): void => {
    if (when !== at || statements !== n) return
    process.kill(process.pid, 'SIGKILL')
    for (;;) {} // the signal arrives before anything else can happen
  }
  watchStatements(
    () => {
      statements += 1
      die('before')
    },
    () => die('after'),
  )
  return () => statements
}
