import type { Readable } from 'node:stream'
import { Compile } from 'typebox/compile'
import { profileSchema } from '../domain/profile.ts'
import type { PawlError } from '../errors.ts'
import { readYaml, type YamlFile } from './yaml-file.ts'

/** A profile as it stands in a file, of a profile's form. The server fills in defaults and checks what the form does not say. */
export interface WrittenProfile {
  readonly name: string
}

/** One thing that a value breaks, as typebox tells it. */
interface Fault {
  readonly keyword: string
  readonly schemaPath: string
  readonly instancePath: string
  readonly params: object
  readonly message: string
}

const compiled = Compile(profileSchema)

/** Reads a profile from a YAML file, or from stdin for `-`. Throws `invalid` naming file, line, column and field. */
export async function readProfile(file: string, stdin: Readable): Promise<WrittenProfile> {
  const yaml = await readYaml(file, stdin)
  if (compiled.Check(yaml.value)) return yaml.value
  throw located(yaml, [...compiled.Errors(yaml.value)])
}

/**
 * Of a union's faults, only those of the form that was most likely meant: the one whose faults lie deepest, and of those
 * the one with the fewest. `boot: {stage2: 1}` is a sequence with a bad image, not a misspelled "local".
 */
function mostTelling(faults: readonly Fault[]): Fault | undefined {
  const branches = Map.groupBy(
    faults.filter((fault) => fault.keyword !== 'anyOf' && fault.keyword !== 'boolean'),
    (fault) => /^.*\/anyOf\/\d+/.exec(fault.schemaPath)?.[0] ?? '',
  )
  const plain = branches.get('')
  if (plain !== undefined) return plain[0]
  const ranked = [...branches.values()].sort((a, b) => rank(b) - rank(a) || a.length - b.length)
  return ranked[0]?.[0]
}

function rank(faults: readonly Fault[]): number {
  const depth = Math.max(...faults.map((fault) => fault.instancePath.split('/').length))
  // A value of another type altogether was not meant as this form; an unknown field next to the right ones was.
  const first = faults[0]
  const likely = first === undefined || first.keyword === 'type' || first.keyword === 'const' ? 0 : 1
  const unknown = first?.keyword === 'additionalProperties' ? 1 : 0
  return depth * 4 + likely * 2 + unknown
}

function located(yaml: YamlFile, all: readonly Fault[]): PawlError {
  const fault = mostTelling(all)
  if (fault === undefined) return yaml.fault([], 'is not a profile')
  const path = fault.instancePath.split('/').slice(1)
  const names = (key: string): string[] => (paramOf(fault.params, key) as string[] | undefined) ?? [] // typebox lists them
  if (fault.keyword === 'additionalProperties') {
    const [unknown = ''] = names('additionalProperties')
    return yaml.fault([...path, unknown], `unknown field ${fieldOf([...path, unknown])}`)
  }
  if (fault.keyword === 'required') {
    const missing = names('requiredProperties').map((name) => fieldOf([...path, name]))
    return yaml.fault(path, `${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} missing`)
  }
  const value = at(yaml.value, path)
  return yaml.fault(
    path,
    `${path.length === 0 ? 'a profile' : fieldOf(path)} must ${ruleOf(fault, all)}`,
    hintOf(fault, value),
  )
}

const typeNames: Readonly<Record<string, string>> = {
  object: 'a map',
  array: 'a list',
  string: 'text',
  boolean: 'true or false',
}

/** What a value must be: of all forms that were possible at its place. */
function ruleOf(fault: Fault, all: readonly Fault[]): string {
  if (fault.keyword !== 'const' && fault.keyword !== 'type') return fault.message.replace(/^must /, '')
  const here = all.filter((other) => other.instancePath === fault.instancePath)
  const named = here
    .filter(({ keyword }) => keyword === 'const')
    .map(({ params }) => JSON.stringify(paramOf(params, 'allowedValue')))
  const types = here
    .filter(({ keyword }) => keyword === 'type')
    .map(({ params }) => String(paramOf(params, 'type')))
    .filter((type) => type !== 'string' || named.length === 0)
    .map((type) => typeNames[type] ?? type)
  return `be ${[...new Set([...named, ...types])].join(' or ')}`
}

function hintOf(fault: Fault, value: unknown): string | undefined {
  const meantAsText = fault.keyword === 'type' && paramOf(fault.params, 'type') === 'string'
  return meantAsText && typeof value !== 'object' ? 'put it in quotes' : undefined
}

function paramOf(params: object, name: string): unknown {
  return (params as Readonly<Record<string, unknown>>)[name]
}

function fieldOf(path: readonly string[]): string {
  return path.join('.')
}

function at(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, step) => (inner as Record<string, unknown> | null)?.[step], value)
}
