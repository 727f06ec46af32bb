import Type, { type Static, type TSchema, type TUnsafe } from '../../domain/schema.ts'

/** The same type with everything read-only, to compare by shape. */
type Frozen<T> = T extends readonly (infer Item)[]
  ? readonly Frozen<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: Frozen<T[Key]> }
    : T

type Same<A, B> = [Frozen<A>] extends [Frozen<B>]
  ? [Frozen<B>] extends [Frozen<A>]
    ? unknown
    : never
  : never

/**
 * The schema of an answer that is a `View` of the fleet: compiles only where both describe the same shape, so that no
 * field is promised and not sent, or sent and not described. `title` is its name in the OpenAPI document.
 */
export function answers<View>(
  title?: string,
): <S extends TSchema>(schema: S & Same<View, Static<S>>) => TUnsafe<View> {
  return (schema) => {
    const answer = Type.Unsafe<View>(schema)
    return title === undefined ? answer : Object.assign(answer, { title })
  }
}

/** Text or null. */
export const textOrNull = Type.Union([Type.String(), Type.Null()])

/** One of the names of a table. */
export function oneOf<Name extends string>(names: readonly Name[]): TUnsafe<Name> {
  return Type.Unsafe<Name>(Type.String({ enum: [...names] }))
}

/** A page of a list; `next` is the cursor of the page behind it. */
export interface Page<Item, Cursor> {
  readonly items: readonly Item[]
  readonly next: Cursor | null
}

/** Any JSON object. */
export const anyObject = Type.Record(Type.String(), Type.Unknown())

/** Query and path values: printable ASCII, so that no database is asked for what it cannot hold. */
export const word = Type.String({ pattern: '^[!-~]{1,253}$' })

/** A number of items to list. */
export const limit = Type.Integer({ minimum: 1, maximum: 1000, default: 100 })

/** Which page of a list. */
export const pageFields = { limit: Type.Optional(limit), after: Type.Optional(word) }

/** The query of a list that has no filter. */
export const pageQuery = Type.Object(pageFields, { additionalProperties: false })

/** The page that a query asks for. */
export function pageAsked({ limit = 100, after }: Static<typeof pageQuery>): {
  limit: number
  after?: string
} {
  return after === undefined ? { limit } : { limit, after }
}

/** A body, a query or a path with nothing in it. */
export const nothing = Type.Object({}, { additionalProperties: false })

/** Where a request may have a body of its own, but this one has none: null is what Fastify checks then. */
export const noBody = Type.Union([Type.Null(), nothing], { title: 'Nothing' })
