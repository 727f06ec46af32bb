import { isPawlError, PawlError } from '../errors.ts'
import { joinFormFault } from './join-form.ts'
import { quote } from './node.ts'
import type { Validator } from './schema.ts'

/** What is wrong with a profile by its schema, in one line that names the field. */
export function profileFault(compiled: Validator, value: unknown): PawlError {
  const faults = ['boot', 'reinstall'].flatMap((sequence) => {
    const join = fieldOf(fieldOf(value, sequence), 'join')
    const fault = join === undefined ? undefined : joinFormFault(join)
    if (fault === undefined) return []
    const at = [sequence, 'join', fault.at].filter((part) => part !== '').join('.')
    return [`${at} ${fault.message}`]
  })
  if (faults.length > 0) return new PawlError('invalid', `profile: ${faults.join('; ')}`)
  const errors = [...compiled.Errors(value)]
  const unknown = errors.find((e) => e.keyword === 'additionalProperties' && e.instancePath === '')
  if (unknown !== undefined) {
    const names = (unknown.params as { additionalProperties: string[] }).additionalProperties
    return new PawlError('invalid', `profile: unknown field ${quote(names[0] ?? '')}`)
  }
  // Of a union's many errors the deepest path says most about what was meant.
  const [deepest] = errors.sort((a, b) => b.instancePath.length - a.instancePath.length)
  const path = (deepest?.instancePath ?? '').slice(1).replaceAll('/', '.')
  return new PawlError(
    'invalid',
    `profile${path === '' ? '' : `: ${path}`} ${deepest?.message ?? 'is not a profile'}`,
  )
}

/** Does each check, and throws what all of them find wrong as one: what each says of itself, and the first hint. */
export function checkAll(checks: readonly (() => void)[]): void {
  const faults: PawlError[] = []
  for (const check of checks) {
    try {
      check()
    } catch (error) {
      if (!isPawlError(error, 'invalid')) throw error
      faults.push(error)
    }
  }
  const [first, ...others] = faults
  if (first === undefined) return
  if (others.length === 0) throw first
  const messages = [...new Set(faults.map(({ message }) => message))]
  const hint = faults.find((fault) => fault.hint !== undefined)?.hint
  throw new PawlError('invalid', messages.join('; '), hint === undefined ? {} : { hint })
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}
