import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { PawlError } from '../errors.ts'
import { findSecretFile, writeFileDurably } from '../pki/key-file.ts'
import type { Io } from './io.ts'

/** A server that `pawl login` was told of, and what proves us to it. */
export interface StoredContext {
  readonly url: string
  /** The root certificate to believe, PEM. */
  readonly ca: string
  readonly token?: string
  /** Files of a client certificate and its key, instead of a token. */
  readonly cert?: string
  readonly key?: string
}

/** All of them, by name. */
export interface Contexts {
  readonly current: string | null
  readonly contexts: Readonly<Record<string, StoredContext>>
}

/** Where they are kept: `$XDG_CONFIG_HOME/pawl/config.json`, else under `~/.config`; undefined where neither is known. */
export function contextsFile(env: Io['env']): string | undefined {
  const { XDG_CONFIG_HOME: config, HOME: home } = env
  if (config?.startsWith('/')) return join(config, 'pawl', 'config.json')
  return home?.startsWith('/') ? join(home, '.config', 'pawl', 'config.json') : undefined
}

/** Reads them; none where there is no file. Throws `key-unreadable` for a file that others can read: tokens are in it. */
export function readContexts(env: Io['env']): Contexts {
  const file = contextsFile(env)
  const text = file === undefined ? undefined : findSecretFile(file)
  if (file === undefined || text === undefined) return { current: null, contexts: {} }
  const value = parse(text)
  if (value !== undefined) return value
  throw new PawlError('usage', `${file} does not hold what pawl login writes`, {
    hint: 'move it away, and run pawl login again',
  })
}

/** Writes them, 0600, in a folder of ours. */
export function writeContexts(env: Io['env'], contexts: Contexts): string {
  const file = contextsFile(env)
  if (file === undefined) {
    throw new PawlError('usage', 'there is no place for what login writes', {
      hint: 'set HOME or XDG_CONFIG_HOME to a folder',
    })
  }
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  writeFileDurably(file, `${JSON.stringify(contexts, null, 2)}\n`, 0o600)
  return file
}

/** One by its name, else the current one; undefined where there is none. Throws `usage` for a name that is not there. */
export function chosenContext(
  env: Io['env'],
  asked: string | undefined,
): { name: string; context: StoredContext } | undefined {
  const { current, contexts } = readContexts(env)
  const name = asked ?? current
  if (name === null) return undefined
  const context = Object.hasOwn(contexts, name) ? contexts[name] : undefined
  if (context !== undefined) return { name, context }
  throw new PawlError('usage', `there is no context ${JSON.stringify(name)}`, {
    hint: 'list them with pawl context list, or make one with pawl login URL --context NAME',
  })
}

/** Checks a context's name. */
export function parseContextName(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/.test(text)) return text
  throw new PawlError(
    'usage',
    `context name ${JSON.stringify(text.slice(0, 80))} is not 1 to 64 letters, digits, ".", "_", ":" or "-"`,
  )
}

function parse(text: string): Contexts | undefined {
  try {
    const { current, contexts } = JSON.parse(text) as { current?: unknown; contexts?: unknown }
    const known = typeof contexts === 'object' && contexts !== null ? Object.entries(contexts) : undefined
    if (known === undefined || !(current === null || typeof current === 'string')) return undefined
    if (!known.every(([, one]) => isContext(one))) return undefined
    return { current, contexts: Object.fromEntries(known) as Contexts['contexts'] } // each was looked at
  } catch {
    return undefined
  }
}

function isContext(value: unknown): value is StoredContext {
  if (typeof value !== 'object' || value === null) return false
  const { url, ca, token, cert, key } = value as Readonly<Record<string, unknown>>
  const optional = [token, cert, key].every((one) => one === undefined || typeof one === 'string')
  return typeof url === 'string' && typeof ca === 'string' && optional
}
