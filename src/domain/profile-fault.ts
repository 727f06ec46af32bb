import type { Validator } from 'typebox/compile'
import { PawlError } from '../errors.ts'
import { joinFormFault } from './join-form.ts'
import { quote } from './node.ts'

/** What is wrong with a profile by its schema, in one line that names the field. */
export function profileFault(compiled: Validator, value: unknown): PawlError {
  for (const sequence of ['boot', 'reinstall']) {
    const join = fieldOf(fieldOf(value, sequence), 'join')
    const fault = join === undefined ? undefined : joinFormFault(join)
    if (fault !== undefined) {
      const at = ['join', fault.at].filter((part) => part !== '').join('.')
      return new PawlError('invalid', `profile: ${sequence}.${at} ${fault.message}`)
    }
  }
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

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}
