import { createPrivateKey, X509Certificate } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PawlError } from '../errors.ts'
import { readSecretFile } from '../pki/key-file.ts'
import { retiredRoots } from '../pki/places.ts'
import { chosenContext } from './contexts.ts'
import type { Io } from './io.ts'

/** Where the operator listener is, and what proves us to it and it to us. */
export interface Connection {
  /** `https://HOST:PORT`, without a path. */
  readonly url: string
  /** Undefined where a client certificate proves us. */
  readonly token: string | undefined
  /** A client certificate and its key, PEM. */
  readonly client?: { readonly cert: string; readonly key: string }
  /** The root certificate that the server's must lead to, PEM. No other is believed. */
  readonly ca: string
  /** Roots of before a rotation, PEM: what they signed is this server's, but none is believed. */
  readonly formerRoots?: string
  /** What to do when nothing answers. */
  readonly whenUnreachable: string
  /** What to do when the server does not know the token or the certificate. */
  readonly whenUnknown: string
}

/** Where the operator listener is when the data folder does not say. */
const defaultUrl = 'https://127.0.0.1:8444'

const environmentNames = ['PAWL_URL', 'PAWL_TOKEN', 'PAWL_CERT', 'PAWL_KEY', 'PAWL_CA'] as const

/**
 * Finds the server: `--data DIR` and `--context NAME` first, then PAWL_URL with PAWL_CA and PAWL_TOKEN (or PAWL_CERT and
 * PAWL_KEY), then PAWL_DATA, then what `pawl login` wrote: PAWL_CONTEXT, or the current one. Throws `usage` where none is
 * named, `key-unreadable` for a file of secrets that others can read.
 */
export async function findConnection(
  env: Io['env'],
  dataDir: string | undefined,
  contextName?: string,
): Promise<Connection> {
  if (dataDir !== undefined && contextName !== undefined)
    throw new PawlError('usage', '--data and --context name two servers', { hint: 'give one of them' })
  if (dataDir !== undefined) return fromFolder(dataDir)
  if (contextName !== undefined) return fromContext(env, contextName)
  const given = environmentNames.filter((name) => isSet(env[name]))
  if (given.length > 0) return fromEnvironment(env, given)
  const folder = env.PAWL_DATA
  if (isSet(folder)) return fromFolder(folder)
  return fromContext(env, isSet(env.PAWL_CONTEXT) ? env.PAWL_CONTEXT : undefined)
}

/** The data folder that `findConnection` finds the server by; undefined where the server is named in another way. */
export function dataFolderOf(env: Io['env'], dataDir: string | undefined): string | undefined {
  if (dataDir !== undefined) return dataDir
  return environmentNames.some((name) => isSet(env[name])) || !isSet(env.PAWL_DATA)
    ? undefined
    : env.PAWL_DATA
}

/** What `pawl login` wrote. */
async function fromContext(env: Io['env'], asked: string | undefined): Promise<Connection> {
  const chosen = chosenContext(env, asked)
  if (chosen === undefined) {
    throw new PawlError('usage', 'no server is named', {
      hint: "run pawl login URL, or give --data DIR on the server's machine, or set PAWL_URL, PAWL_TOKEN and PAWL_CA",
    })
  }
  const { name, context } = chosen
  const { url, ca, token, cert, key } = context
  const client = cert === undefined || key === undefined ? undefined : await readClient(cert, key)
  return {
    url: parseUrl(url, `context ${name}`),
    token: token === undefined ? undefined : parseToken(token, `context ${name}`),
    ...(client === undefined ? {} : { client }),
    ca: parseCa(ca, `context ${name}`),
    whenUnreachable: `is the server of context ${name} at ${url} still?`,
    whenUnknown: `run pawl login --context ${name}`,
  }
}

/** A client certificate and its key, which nobody else may read. */
export async function readClient(certFile: string, keyFile: string): Promise<{ cert: string; key: string }> {
  const hint = 'make both with pawl operator certificate create'
  const cert = parseCa(await readText(certFile, { hint }), certFile)
  const key = readSecretFile(keyFile, hint)
  if (isPair(cert, key)) return { cert, key }
  throw new PawlError('certificate-invalid', `${keyFile} is not the key of ${certFile}`, { hint })
}

async function fromFolder(dataDir: string): Promise<Connection> {
  const token = await readToken(join(dataDir, 'admin.token'), dataDir)
  const server = await runningServer(join(dataDir, 'server.json'))
  const caFile = server.ca ?? join(dataDir, 'ca.crt')
  const ca = await readText(caFile, { hint: `make it with pawl init --data ${dataDir}` })
  return {
    url: server.url,
    token: parseToken(token, join(dataDir, 'admin.token')),
    ca: parseCa(ca, caFile),
    formerRoots: retiredRoots(dataDir),
    whenUnreachable: `start the server with pawl server --data ${dataDir}`,
    whenUnknown: `does the server that runs there use ${dataDir}, and its database?`,
  }
}

async function fromEnvironment(
  env: Io['env'],
  given: readonly (typeof environmentNames)[number][],
): Promise<Connection> {
  const { PAWL_URL: url, PAWL_TOKEN: token, PAWL_CA: ca, PAWL_CERT: cert, PAWL_KEY: key } = env
  const byCertificate = isSet(cert) || isSet(key)
  if (byCertificate && isSet(token))
    throw new PawlError('usage', 'PAWL_TOKEN and PAWL_CERT are two ways to say who asks', {
      hint: 'unset one',
    })
  const proof = byCertificate ? (['PAWL_CERT', 'PAWL_KEY'] as const) : (['PAWL_TOKEN'] as const)
  const missing = (['PAWL_URL', ...proof, 'PAWL_CA'] as const).filter((name) => !given.includes(name))
  if (!isSet(url) || !isSet(ca) || missing.length > 0) {
    throw new PawlError('usage', `${given.join(' and ')} without ${missing.join(' and ')}`, {
      hint: byCertificate
        ? 'set all of PAWL_URL, PAWL_CERT, PAWL_KEY and PAWL_CA'
        : "set all of PAWL_URL, PAWL_TOKEN and PAWL_CA (the file of the server's root certificate)",
    })
  }
  return {
    url: parseUrl(url, 'PAWL_URL'),
    token: isSet(token) ? parseToken(token, 'PAWL_TOKEN') : undefined,
    ...(isSet(cert) && isSet(key) ? { client: await readClient(cert, key) } : {}),
    ca: parseCa(await readText(ca, { hint: 'PAWL_CA names the file of the root certificate, ca.crt' }), ca),
    whenUnreachable: 'check PAWL_URL, and that the server runs',
    whenUnknown: byCertificate ? 'check PAWL_CERT' : 'check PAWL_TOKEN',
  }
}

/** The running server writes where it is; one that was killed leaves the file, and then nobody answers there. */
async function runningServer(file: string): Promise<{ url: string; ca?: string }> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { url: defaultUrl }
    throw unreadable(file, error, undefined)
  }
  const { operator, operatorCa } = announcedIn(text)
  return {
    url: parseUrl(operator ?? '', file),
    ...(operatorCa === undefined ? {} : { ca: operatorCa }),
  }
}

/** `operatorCa` is there where the listener has a certificate of the operator's own. */
function announcedIn(text: string): { operator?: string; operatorCa?: string } {
  try {
    const { operator, operatorCa } = JSON.parse(text) as Record<string, unknown>
    return {
      ...(typeof operator === 'string' ? { operator } : {}),
      ...(typeof operatorCa === 'string' ? { operatorCa } : {}),
    }
  } catch {
    return {}
  }
}

/** Whoever has this token is an admin. The mode is asked of the opened file, so that it is of what is read. */
async function readToken(file: string, dataDir: string): Promise<string> {
  let handle: Awaited<ReturnType<typeof open>>
  try {
    handle = await open(file, constants.O_RDONLY)
  } catch (error) {
    throw unreadable(file, error, `make it with pawl init --data ${dataDir}`)
  }
  try {
    const { mode } = await handle.stat()
    if ((mode & 0o077) !== 0) {
      throw new PawlError(
        'key-unreadable',
        `${file} has mode ${(mode & 0o777).toString(8).padStart(4, '0')}: others can use the admin's token`,
        { hint: `run chmod 600 ${file}; if others may have read it, remove it and run pawl init again` },
      )
    }
    return (await handle.readFile('utf8')).trim()
  } finally {
    await handle.close()
  }
}

async function readText(file: string, { hint }: { hint: string }): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw unreadable(file, error, hint)
  }
}

function unreadable(file: string, error: unknown, whenAbsent: string | undefined): PawlError {
  const code = codeOf(error)
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new PawlError(
      'not-found',
      `there is no ${file}`,
      whenAbsent === undefined ? {} : { hint: whenAbsent },
    )
  }
  return new PawlError('key-unreadable', `${file} cannot be read (${code ?? 'unknown'})`, {
    hint: 'run this as the user that the server runs as',
  })
}

/** A path or query would be dropped silently, and user or password sent nowhere: they are refused. */
export function parseUrl(text: string, where: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || url.protocol !== 'https:' || url.href !== `${url.origin}/`) {
    throw new PawlError('usage', `${where} does not hold a URL of the form https://HOST:PORT`)
  }
  return url.origin
}

/** Never shows the token: it may be one but for a stray character. */
export function parseToken(text: string, where: string): string {
  if (/^[!-~]{1,512}$/.test(text)) return text
  throw new PawlError('usage', `${where} does not hold an operator token`)
}

/** A certificate, PEM; throws `usage`. */
export function parseCa(text: string, where: string): string {
  if (text.includes('-----BEGIN CERTIFICATE-----')) return text
  throw new PawlError('usage', `${where} does not hold a certificate in PEM`)
}

function isPair(cert: string, key: string): boolean {
  try {
    return new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))
  } catch {
    return false
  }
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== ''
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | null)?.code
}
