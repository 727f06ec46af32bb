import type { Compilable, CompiledQuery, RawBuilder } from 'kysely'
import type { Queries } from './database.ts'
import { prepare } from './prepared.ts'
import { OwnSqliteAdapter } from './sqlite.ts'

/** A value of a statement that is told when it is run. */
class Value {
  readonly name: string

  constructor(name: string) {
    this.name = name
  }
}

/** A query that was built and compiled once, and is run with other values each time. */
export interface Statement<Values, Row> {
  /** Every row. */
  all(db: Queries, values: Values): Promise<Row[]>
  /** The first row. */
  first(db: Queries, values: Values): Promise<Row | undefined>
  /** How many rows it changed. */
  change(db: Queries, values: Values): Promise<number>
}

interface Compiled {
  readonly query: CompiledQuery
  /** The names of the values in order; where a value is a constant, undefined. */
  readonly names: readonly (string | undefined)[]
}

/**
 * A statement of the hot path. Building a query and compiling it costs several times what SQLite needs to run it, so it is done once for each
 * database: `value` stands for what comes later, and `build` must not look at it. PostgreSQL prepares it, once for each connection.
 *
 * `statement<{ id: string }>()((db, value) => db.selectFrom('nodes').selectAll().where('id', '=', value('id')))`
 */
export function statement<Values extends object>() {
  return <Row>(
    build: (
      db: Queries,
      value: <Name extends keyof Values & string>(name: Name) => Values[Name],
      postgres: boolean,
    ) => Compilable<Row> | RawBuilder<Row>,
  ): Statement<Values, Row> => {
    const known: { postgres?: Compiled; sqlite?: Compiled } = {}

    function compile(db: Queries, postgres: boolean): Compiled {
      // A placeholder is never looked into: Kysely takes an object as a parameter and hands it on.
      const built = build(db, (name) => new Value(name) as never, postgres)
      const compiled = 'isRawBuilder' in built ? built.compile(db) : built.compile()
      const query = postgres ? compiled : { ...compiled, sql: plannedOnce(compiled.sql) }
      if (postgres) prepare(query.sql)
      return { query, names: query.parameters.map((one) => (one instanceof Value ? one.name : undefined)) }
    }

    function run(db: Queries, values: Values): Ran | Promise<Ran> {
      const { adapter } = db.getExecutor()
      const postgres = adapter.supportsMultipleConnections === true
      const of = postgres ? 'postgres' : 'sqlite'
      known[of] ??= compile(db, postgres)
      const { query, names } = known[of]
      const given = values as Readonly<Record<string, unknown>>
      const parameters = names.map((name, at) => (name === undefined ? query.parameters[at] : given[name]))
      // Whoever has the connection needs none of Kysely's layers: they cost as much as what they wrap.
      if (adapter instanceof OwnSqliteAdapter && adapter.connection.turn === db)
        return adapter.connection.query(query.sql, parameters)
      return db
        .executeQuery({ ...query, parameters } as CompiledQuery)
        .then(({ rows, numAffectedRows }) => ({ rows, changes: Number(numAffectedRows ?? 0) }))
    }

    // What is there at once is not waited for: a promise more costs as much as a look-up.
    return {
      async all(db, values) {
        const ran = run(db, values)
        return (ran instanceof Promise ? await ran : ran).rows as Row[]
      },
      async first(db, values) {
        const ran = run(db, values)
        return (ran instanceof Promise ? await ran : ran).rows[0] as Row | undefined
      },
      async change(db, values) {
        const ran = run(db, values)
        return (ran instanceof Promise ? await ran : ran).changes ?? 0
      },
    }
  }
}

/** What it gave: rows, or how many it changed. */
interface Ran {
  readonly rows: unknown[]
  readonly changes?: number | undefined
}

/**
 * SQLite plans many a look-up anew for each value that it is given, which costs ten times the look-up: it might know the values of
 * an index by `ANALYZE`. Of a subquery it does not. What is inserted or set is no matter of planning. Our statements hold no
 * question mark but for values.
 */
function plannedOnce(text: string): string {
  const from = /^select\b/.test(text) ? 0 : / where /.exec(text)?.index
  return from === undefined ? text : text.slice(0, from) + text.slice(from).replaceAll('?', '(select ?)')
}

/** Statements that differ by more than values, `of` being plain data: one each, made when first wanted. Their number is that of the callers. */
export function perKey<Of, Values, Row>(
  make: (of: Of) => Statement<Values, Row>,
): (of: Of) => Statement<Values, Row> {
  const made = new Map<unknown, Statement<Values, Row>>()
  return (of) => {
    const key = typeof of === 'object' ? JSON.stringify(of) : of
    const known = made.get(key) ?? make(of)
    made.set(key, known)
    return known
  }
}

/** Statements that differ by which columns they set: one each, made when first wanted. Their number is that of the callers. */
export function byColumns<Values extends object, Row>(
  make: (columns: readonly (keyof Values & string)[]) => Statement<Values, Row>,
): (changes: Partial<Values>) => Statement<Values, Row> {
  const made = new Map<string, Statement<Values, Row>>()
  return (changes) => {
    const given = Object.entries(changes).flatMap(([name, value]) => (value === undefined ? [] : [name]))
    const columns = given as (keyof Values & string)[] // our own objects: no other keys
    const key = columns.join()
    const known = made.get(key) ?? make(columns)
    made.set(key, known)
    return known
  }
}
