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
