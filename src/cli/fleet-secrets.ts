import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { extensionSources } from '../domain/extension-file.ts'
import { overlaySchema } from '../domain/join/overlay.ts'
import { type JoinSecret, joinSchema, mapSecretFields, secretsOf } from '../domain/join.ts'
import { kubeconfigOfJoin, type Leave, leaveSchema, secretOfHook } from '../domain/leave.ts'
import { Compile } from '../domain/schema.ts'
import { PawlError } from '../errors.ts'

/** What secrets of files are taken from. */
export interface SecretSources {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The file that names the secret: paths in it are relative to its folder. */
  readonly file: string
}

/** What is wrong with a secret of a join, hook or extension, and where in it. Never holds its value. */
export interface SecretFault {
  readonly setting: string
  readonly message: string
}

const maxSecretBytes = 64 * 1024

/** What files say, with its secrets in place. */
export interface ResolvedSecrets {
  readonly value: Record<string, unknown>
  readonly faults: readonly SecretFault[]
  /** The secrets that stand in the file as they are. */
  readonly inClear: readonly string[]
}

/**
 * A join with each secret in place of where it comes from. Only secret settings can come from elsewhere: they are never
 * shown, so that a file cannot be made to print what the machine of whoever applies it holds.
 */
export async function resolveSecrets(
  join: Readonly<Record<string, unknown>>,
  sources: SecretSources,
): Promise<ResolvedSecrets> {
  const written = new Map<string, unknown>()
  mapSecretFields(join, (value, { name }) => {
    written.set(name, value)
    return value
  })
  const known = secretsOf(join).filter(({ name }) => written.has(name))
  const { values, ...rest } = await resolveEach(
    known.map((secret) => ({
      name: secret.name,
      setting: `${secret.part}.${secret.field}`,
      value: written.get(secret.name),
      schema: schemaOf(join, secret),
    })),
    sources,
  )
  return { value: mapSecretFields(join, (_value, { name }) => values.get(name)), ...rest }
}

/** A hook of leaving, in the same way. */
export async function resolveHook(
  hook: Readonly<Record<string, unknown>> & Pick<Leave, 'kind'>,
  sources: SecretSources,
): Promise<ResolvedSecrets> {
  const setting = secretOfHook(hook)
  const value = hook[setting]
  if (value === kubeconfigOfJoin && setting === 'kubeconfig')
    return { value: { ...hook }, faults: [], inClear: [] }
  const schema = formOf(leaveSchema.anyOf, hook.kind)?.properties[setting]
  const { values, ...rest } = await resolveEach([{ name: setting, setting, value, schema }], sources)
  return { value: { ...hook, ...Object.fromEntries(values) }, ...rest }
}

/** An extension, in the same way; of its values only the key is a secret, and worth a word where it stands in the file. */
export async function resolveExtension(
  extension: Readonly<Record<string, unknown>>,
  sources: SecretSources,
): Promise<ResolvedSecrets> {
  const written = Object.entries(extensionSources).filter(([name]) => name in extension)
  const { values, faults, inClear } = await resolveEach(
    written.map(([name, schema]) => ({ name, setting: name, value: extension[name], schema })),
    sources,
  )
  return {
    value: { ...extension, ...Object.fromEntries(values) },
    faults,
    inClear: inClear.filter((name) => name === 'clientKey'),
  }
}

interface WrittenSecret {
  readonly name: string
  readonly setting: string
  readonly value: unknown
  readonly schema: SecretSchema | undefined
}

async function resolveEach(
  secrets: readonly WrittenSecret[],
  sources: SecretSources,
): Promise<{ values: Map<string, unknown>; faults: SecretFault[]; inClear: string[] }> {
  const values = new Map<string, unknown>()
  const faults: SecretFault[] = []
  const inClear: string[] = []
  for (const { name, setting, value, schema } of secrets) {
    values.set(name, value)
    if (typeof value === 'string' && value !== '***') inClear.push(setting)
    if (typeof value !== 'object' || value === null) continue
    try {
      const found = await fetchSecret(value, sources, isMultiline(schema))
      if (!fits(schema, found)) throw new PawlError('invalid', 'has not the form that it must have')
      values.set(name, found)
    } catch (error) {
      if (!(error instanceof PawlError)) throw error
      faults.push({ setting, message: error.message })
    }
  }
  return { values, faults, inClear }
}

async function fetchSecret(from: object, { env, file }: SecretSources, whole: boolean): Promise<string> {
  if ('fromEnv' in from) {
    const value = env[String(from.fromEnv)]
    if (value === undefined || value === '')
      throw new PawlError(
        'invalid',
        `comes from the environment variable ${String(from.fromEnv)}, which is not set`,
      )
    return value
  }
  const named = String((from as { fromFile?: unknown }).fromFile)
  const path = resolve(file === '-' ? '.' : dirname(file), named)
  try {
    const found = await stat(path)
    if (!found.isFile()) throw new PawlError('invalid', `comes from ${named}, which is no file`)
    if (found.size > maxSecretBytes)
      throw new PawlError('invalid', `comes from ${named}, which is larger than 64 KiB`)
    const text = await readFile(path, 'utf8')
    return whole ? text : (text.split('\n')[0]?.trimEnd() ?? '')
  } catch (error) {
    if (error instanceof PawlError) throw error
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    throw new PawlError('invalid', `comes from ${named}, which cannot be read (${code})`)
  }
}

interface SecretSchema {
  readonly pattern?: string
}

/** The form of a secret, in the settings of its join's kind or in its overlay. */
function schemaOf(
  join: Readonly<Record<string, unknown>>,
  { part, field }: JoinSecret,
): SecretSchema | undefined {
  const form = formOf(joinSchema.anyOf, join.kind)
  if (part === 'settings') return (form?.properties.settings as Form | undefined)?.properties?.[field]
  const overlay = join.overlay as { kind?: unknown }
  return formOf(overlaySchema.anyOf, overlay.kind)?.properties[field]
}

interface Form {
  readonly properties: Readonly<Record<string, { readonly const?: unknown } & SecretSchema>>
}

function formOf(forms: unknown, kind: unknown): Form | undefined {
  return (forms as readonly Form[]).find(({ properties }) => properties.kind?.const === kind)
}

/** A secret without a pattern is a text of lines: a kubeconfig, a key as PEM. Its file is taken whole. */
function isMultiline(schema: SecretSchema | undefined): boolean {
  return schema !== undefined && schema.pattern === undefined
}

function fits(schema: SecretSchema | undefined, value: string): boolean {
  return schema === undefined || Compile(schema as never).Check(value as never)
}
