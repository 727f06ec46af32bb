import type { Compilable, CompiledQuery, QueryResult, RawBuilder } from 'kysely'
import type { Queries } from './database.ts'

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
 * database: `value` stands for what comes later, and `build` must not look at it.
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
      const query = 'isRawBuilder' in built ? built.compile(db) : built.compile()
      return { query, names: query.parameters.map((one) => (one instanceof Value ? one.name : undefined)) }
    }

    function run(db: Queries, values: Values): Promise<QueryResult<Row>> {
      const postgres = db.getExecutor().adapter.supportsMultipleConnections === true
      const of = postgres ? 'postgres' : 'sqlite'
      known[of] ??= compile(db, postgres)
      const { query, names } = known[of]
      const given = values as Readonly<Record<string, unknown>>
      const parameters = names.map((name, at) => (name === undefined ? query.parameters[at] : given[name]))
      return db.executeQuery<Row>({ ...query, parameters } as CompiledQuery<Row>)
    }

    return {
      all: async (db, values) => (await run(db, values)).rows,
      first: async (db, values) => (await run(db, values)).rows[0],
      change: async (db, values) => Number((await run(db, values)).numAffectedRows ?? 0),
    }
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
