import type { JoinFault } from './join/kind.ts'
import { joinKinds, joinSchema } from './join.ts'
import { Compile, type Validator } from './schema.ts'

/**
 * What is wrong with a join by the form of its kind: of a union typebox tells what it is not of every form, and the one that was meant is
 * the one of its kind. Undefined where the form is right.
 */
export function joinFormFault(join: unknown): JoinFault | undefined {
  if (typeof join !== 'object' || join === null) return { at: '', message: 'is not a map' }
  const { kind } = join as { kind?: unknown }
  if (typeof kind !== 'string' || !Object.hasOwn(joinKinds, kind)) {
    const known = Object.keys(joinKinds).map((name) => `"${name}"`)
    return { at: 'kind', message: `must be one of ${known.join(', ')}` }
  }
  const [error] = [...compiledOf(kind).Errors(join as never)].toSorted(
    (a, b) => b.instancePath.length - a.instancePath.length || rank(a.keyword) - rank(b.keyword),
  )
  if (error === undefined) return undefined
  const at = error.instancePath.slice(1).replaceAll('/', '.')
  const { requiredProperties: [missing] = [] } = error.params as { requiredProperties?: string[] }
  if (missing !== undefined) return { at: at === '' ? missing : `${at}.${missing}`, message: 'is missing' }
  if (error.keyword === 'boolean') return { at, message: `is not of a join of kind "${kind}"` }
  return { at, message: error.message }
}

/** A field that is of another kind is told before one that this kind wants. */
function rank(keyword: string): number {
  return keyword === 'boolean' ? 0 : 1
}

const compiled = new Map<string, Validator>()

function compiledOf(kind: string): Validator {
  const form = (joinSchema.anyOf as readonly { properties: { kind: { const?: unknown } } }[]).find(
    ({ properties }) => properties.kind.const === kind,
  )
  const known = compiled.get(kind) ?? (Compile(form as never) as unknown as Validator)
  compiled.set(kind, known)
  return known
}
