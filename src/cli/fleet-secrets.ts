import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { Compile } from 'typebox/compile'
import { joinKinds, joinSchema } from '../domain/join.ts'
import { PawlError } from '../errors.ts'

/** What secrets of files are taken from. */
export interface SecretSources {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The file that names the secret: paths in it are relative to its folder. */
  readonly file: string
}

/** What is wrong with a secret of a join, and where in it. Never holds its value. */
export interface SecretFault {
  readonly setting: string
  readonly message: string
}

const maxSecretBytes = 64 * 1024

/**
 * A join with each secret in place of where it comes from. Only secret settings can come from elsewhere: they are never
 * shown, so that a file cannot be made to print what the machine of whoever applies it holds.
 */
export async function resolveSecrets(
  join: Readonly<Record<string, unknown>>,
  sources: SecretSources,
): Promise<{ join: Record<string, unknown>; faults: SecretFault[]; inClear: string[] }> {
  const faults: SecretFault[] = []
  const inClear: string[] = []
  const secrets: readonly string[] = joinKinds[join.kind as keyof typeof joinKinds]?.secretSettings ?? []
  const settings: Record<string, unknown> = { ...(join.settings as object | undefined) }
  for (const setting of secrets) {
    const value = settings[setting]
    if (typeof value === 'string' && value !== '***') inClear.push(setting)
    if (typeof value !== 'object' || value === null) continue
    try {
      const secret = await fetchSecret(value, sources)
      if (!fits(join.kind, setting, secret))
        throw new PawlError('invalid', 'has not the form that it must have')
      settings[setting] = secret
    } catch (error) {
      if (!(error instanceof PawlError)) throw error
      faults.push({ setting, message: error.message })
    }
  }
  return { join: { ...join, ...(join.settings === undefined ? {} : { settings }) }, faults, inClear }
}

async function fetchSecret(from: object, { env, file }: SecretSources): Promise<string> {
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
    return (await readFile(path, 'utf8')).split('\n')[0]?.trimEnd() ?? ''
  } catch (error) {
    if (error instanceof PawlError) throw error
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    throw new PawlError('invalid', `comes from ${named}, which cannot be read (${code})`)
  }
}

function fits(kind: unknown, setting: string, value: string): boolean {
  const forms = joinSchema.anyOf as unknown as {
    properties: { kind: { const: unknown }; settings: { properties?: Record<string, object> } }
  }[]
  const form = forms.find(({ properties }) => properties.kind.const === kind)
  const schema = form?.properties.settings.properties?.[setting]
  return schema === undefined || Compile(schema as never).Check(value as never)
}
