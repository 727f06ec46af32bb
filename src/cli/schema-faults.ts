import { Compile, type TSchema, type Validator } from '../domain/schema.ts'

/** One thing that is wrong with a document: where, and what. */
export interface SchemaFault {
  readonly path: readonly string[]
  readonly message: string
  readonly hint?: string
}

/** A schema as data, as far as it is looked at here. */
interface Form {
  readonly type?: string
  readonly const?: unknown
  readonly anyOf?: readonly Form[]
  readonly properties?: Readonly<Record<string, Form>>
  readonly required?: readonly string[]
  readonly additionalProperties?: unknown
  readonly patternProperties?: Readonly<Record<string, Form>>
  readonly items?: Form
}

/**
 * Everything that a value breaks of a schema, field by field, in words for the person who wrote it. typebox tells of each
 * form of a union what it is not; here the form that was meant is found first, and only its faults are told.
 */
export function faultsOf(schema: TSchema, value: unknown, what: string): SchemaFault[] {
  const faults: SchemaFault[] = []
  walk(schema as Form, value, [], { faults, what })
  return faults
}

interface Walk {
  readonly faults: SchemaFault[]
  /** What the whole is: `a profile`. */
  readonly what: string
}

function walk(form: Form, value: unknown, path: readonly string[], into: Walk): void {
  if (compiled(form).Check(value as never)) return
  const before = into.faults.length
  if (form.anyOf !== undefined) walkUnion(form.anyOf, value, path, into)
  else if (form.properties !== undefined && isRecord(value)) walkFields(form, value, path, into)
  else if (form.patternProperties !== undefined && isRecord(value)) walkRecord(form, value, path, into)
  else if (form.items !== undefined && Array.isArray(value)) {
    for (const [index, item] of (value as unknown[]).entries())
      walk(form.items, item, [...path, String(index)], into)
  }
  if (into.faults.length === before) into.faults.push(leaf(form, value, path, into.what))
}

function walkFields(form: Form, value: Record<string, unknown>, path: readonly string[], into: Walk): void {
  const { properties = {}, required = [] } = form
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(properties, name))
      into.faults.push({ path: [...path, name], message: `unknown field ${[...path, name].join('.')}` })
  }
  const missing = required
    .filter((name) => value[name] === undefined)
    .map((name) => [...path, name].join('.'))
  if (missing.length > 0)
    into.faults.push({
      path,
      message: `${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} missing`,
    })
  for (const [name, field] of Object.entries(properties)) {
    if (Object.hasOwn(value, name) && value[name] !== undefined)
      walk(field, value[name], [...path, name], into)
  }
}

function walkRecord(form: Form, value: Record<string, unknown>, path: readonly string[], into: Walk): void {
  const [[pattern, field] = ['', {}]] = Object.entries(form.patternProperties ?? {})
  for (const [name, inner] of Object.entries(value)) {
    if (new RegExp(pattern).test(name)) walk(field, inner, [...path, name], into)
    else
      into.faults.push({
        path: [...path, name],
        message: `${[...path, name].join('.')} is not a name that can be here`,
      })
  }
}

/** The form that was most likely meant: whose fixed fields fit, then the one that shares most fields with the value. */
function walkUnion(forms: readonly Form[], value: unknown, path: readonly string[], into: Walk): void {
  if (Array.isArray(value)) {
    const list = forms.find((form) => form.items !== undefined)
    if (list !== undefined) walk(list, value, path, into)
    return
  }
  if (!isRecord(value)) return
  const objects = forms.filter((form) => form.properties !== undefined)
  const [best] = objects.toSorted((a, b) => likeness(b, value) - likeness(a, value))
  if (best === undefined) return
  const tag = tagOf(objects, value, path)
  if (tag === undefined) walk(best, value, path, into)
  else into.faults.push(tag)
}

function likeness({ properties = {} }: Form, value: Record<string, unknown>): number {
  const names = Object.keys(properties)
  const fixed = names.some(
    (name) => properties[name]?.const !== undefined && properties[name].const === value[name],
  )
  return names.filter((name) => Object.hasOwn(value, name)).length + (fixed ? 100 : 0)
}

/** A field that tells the forms apart, where it is of none of them: `join.kind must be "none" or "kubeadm"`. */
function tagOf(
  forms: readonly Form[],
  value: Record<string, unknown>,
  path: readonly string[],
): SchemaFault | undefined {
  const [name] =
    Object.entries(forms.find((form) => hasTag(form))?.properties ?? {}).find(
      ([, f]) => f.const !== undefined,
    ) ?? []
  if (name === undefined || !Object.hasOwn(value, name)) return undefined
  const known: unknown[] = forms
    .map((form) => form.properties?.[name]?.const)
    .filter((one) => one !== undefined)
  if (known.includes(value[name])) return undefined
  const at = [...path, name]
  return {
    path: at,
    message: `${at.join('.')} must be ${known.map((one) => JSON.stringify(one)).join(' or ')}`,
  }
}

function hasTag({ properties = {} }: Form): boolean {
  return Object.values(properties).some((field) => field.const !== undefined)
}

const typeNames: Readonly<Record<string, string>> = {
  object: 'a map',
  array: 'a list',
  string: 'text',
  boolean: 'true or false',
  null: 'null',
  integer: 'a whole number',
}

function leaf(form: Form, value: unknown, path: readonly string[], what: string): SchemaFault {
  const name = path.length === 0 ? what : path.join('.')
  const forms = form.anyOf ?? [form]
  const named = forms.filter((one) => one.const !== undefined).map((one) => JSON.stringify(one.const))
  const types = forms
    .filter((one) => one.const === undefined)
    .map((one) => typeNames[one.type ?? ''] ?? one.type ?? 'something else')
  const wrongType = forms.every((one) => one.const !== undefined || !isOfType(value, one.type))
  if (wrongType || form.anyOf !== undefined) {
    const message = `${name} must be ${[...new Set([...named, ...types])].join(' or ')}`
    const quotes =
      typeof value !== 'object' && forms.some((one) => one.type === 'string' && one.const === undefined)
    return quotes && typeof value !== 'string'
      ? { path, message, hint: 'put it in quotes' }
      : { path, message }
  }
  const [first] = compiled(form).Errors(value as never)
  return { path, message: `${name} ${first?.message ?? 'is wrong'}` }
}

function isOfType(value: unknown, type: string | undefined): boolean {
  if (type === 'integer') return Number.isInteger(value)
  return type === (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value)
}

const validators = new WeakMap<Form, Validator>()

/** Compiled once for each part of a schema: a file may have ten thousand nodes. */
function compiled(form: Form): Validator {
  const known = validators.get(form) ?? (Compile(form as TSchema) as unknown as Validator) // a part of a schema is one
  validators.set(form, known)
  return known
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
