import { createRequire } from 'node:module'
import type typebox from 'typebox'
import type { Static, TSchema } from 'typebox'
import type { TLocalizedValidationError } from 'typebox/error'

export type * from 'typebox'

/**
 * Schemas, as typebox writes them, by the few of its functions that we use. What they make is what typebox would: its types, its
 * compilers and its conversions take it (a test compares them). Loading typebox for it was a fifth of a start: 680 modules, most of them
 * for what types can be computed from others.
 */
const Type = {
  Array: (items, options) => made('Array', { type: 'array', items }, options),
  Boolean: (options) => made('Boolean', { type: 'boolean' }, options),
  Integer: (options) => made('Integer', { type: 'integer' }, options),
  Literal: (value, options) => made('Literal', { type: typeof value, const: value }, options),
  Null: (options) => made('Null', { type: 'null' }, options),
  Number: (options) => made('Number', { type: 'number' }, options),
  Object(properties, options) {
    const names = Object.keys(properties).filter(
      (name) => !Object.hasOwn(properties[name] ?? {}, '~optional'),
    )
    const required = names.length === 0 ? {} : { required: names }
    return made('Object', { type: 'object', ...required, properties }, options)
  },
  Optional: (schema) => marked(schema, '~optional', true),
  Record: (name, value, options) =>
    // Names are texts: of all, or of a pattern.
    made(
      'Record',
      { type: 'object', patternProperties: { [(name as { pattern?: string }).pattern ?? '^.*$']: value } },
      options,
    ),
  String: (options) => made('String', { type: 'string' }, options),
  Union: (anyOf, options) => made('Union', { anyOf }, options),
  Unknown: (options) => made('Unknown', {}, options),
  Unsafe: (schema) => marked(schema, '~unsafe', null),
} as Pick<
  typeof typebox,
  | 'Array'
  | 'Boolean'
  | 'Integer'
  | 'Literal'
  | 'Null'
  | 'Number'
  | 'Object'
  | 'Optional'
  | 'Record'
  | 'String'
  | 'Union'
  | 'Unknown'
  | 'Unsafe'
>

export default Type

function made(kind: string, schema: object, options: object = {}): object {
  return hidden({ ...schema, ...options }, '~kind', kind)
}

/** A copy with a mark; marks are not enumerable, so that the schema as JSON is plain. */
function marked(schema: object, mark: string, value: unknown): object {
  return hidden(Object.defineProperties({}, Object.getOwnPropertyDescriptors(schema)), mark, value)
}

function hidden(schema: object, name: string, value: unknown): object {
  return Object.defineProperty(schema, name, { configurable: true, writable: true, enumerable: false, value })
}

/** A schema that is checked by. */
export interface Validator<Schema extends TSchema = TSchema> {
  Check(value: unknown): value is Static<Schema>
  /** What is wrong with it; nothing where nothing is. */
  Errors(value: unknown): TLocalizedValidationError[]
}

const load = createRequire(import.meta.url)

/** Schemas that machines wait for, to be compiled before the first of them comes: what a server does once it is ready. */
export const neededByMachines: (() => void)[] = []

/** Compiles a schema when it is first checked by, and loads then what compiles. `by` says who waits for that. */
export function Compile<Schema extends TSchema>(schema: Schema, by?: 'machines'): Validator<Schema> {
  let made: Validator | undefined
  const validator = (): Validator => {
    made ??= compileNow(schema)
    return made
  }
  if (by === 'machines') neededByMachines.push(validator)
  return {
    Check: (value): value is Static<Schema> => validator().Check(value),
    Errors: (value) => validator().Errors(value),
  }
}

function compileNow(schema: TSchema): Validator {
  const { Compile: compile } = load('typebox/schema') as typeof import('typebox/schema')
  const compiled = compile(schema as never)
  return {
    Check: (value): value is never => compiled.Check(value),
    Errors: (value) => (compiled.Check(value) ? [] : compiled.Errors(value)[1]),
  }
}
