import { hostname } from 'node:os'
import { resolve } from 'node:path'
import { text as readAll } from 'node:stream/consumers'
import type { Command } from 'commander'
import { isPawlError, PawlError } from '../../errors.ts'
import type { BegunLogin, LoginAnswer, Whoami } from '../answers.ts'
import { type Api, openApi } from '../api.ts'
import { readCertificates } from '../certificate-file.ts'
import { type Connection, parseCa, parseToken, parseUrl, readClient } from '../connection.ts'
import { answer, type Context } from '../context.ts'
import { parseContextName, readContexts, type StoredContext, writeContexts } from '../contexts.ts'
import { withExamples } from '../examples.ts'
import { formatTime } from '../format.ts'
import { fetchPinnedCa, parseFingerprint } from '../pinned-ca.ts'

interface LoginFlags {
  readonly ca?: string
  readonly caFingerprint?: string
  readonly tokenStdin?: true
  readonly cert?: string
  readonly key?: string
}

/** Adds `pawl login`. */
export function addLoginCommand(program: Command, context: Context): void {
  const command = program
    .command('login')
    .description(
      'Remember a server, and who one is there. Without a token or a certificate, a person confirms a code in a browser.',
    )
    .argument('[url]', 'https://HOST:PORT of the operator listener; left out, that of the context')
    .option('--ca <FILE>', "the server's root certificate, ca.crt")
    .option('--ca-fingerprint <SHA256>', 'or its fingerprint, told by whoever runs the server')
    .option('--token-stdin', 'take an operator token from standard input')
    .option('--cert <FILE>', 'a client certificate, with --key')
    .option('--key <FILE>', 'its key (0600)')
    .action(async (url: string | undefined, flags: LoginFlags) => {
      const name = nameOf(context, url)
      const server = await serverOf(context, name, url, flags)
      const { proof, whoami } = await prove(context, server, flags)
      const { contexts } = readContexts(context.io.env)
      const file = writeContexts(context.io.env, {
        current: name,
        contexts: { ...contexts, [name]: { ...server, ...proof } },
      })
      answer(context, { context: name, url: server.url, ...whoami }, () =>
        context.output.line(`${whoami.name} (${whoami.role}) at ${server.url}${untilOf(whoami)}`),
      )
      context.output.note(`context ${name} is in ${file}`)
    })
  withExamples(command, [
    'pawl login https://boot.example.com:8444 --ca ca.crt',
    'pawl login https://boot.example.com:8444 --ca ca.crt --token-stdin < token',
    'pawl login https://boot.example.com:8444 --ca ca.crt --cert c --key k',
  ])
}

type Server = Pick<StoredContext, 'url' | 'ca'>

/** The context that is asked for, else the server's own name, else the current one. */
function nameOf(context: Context, url: string | undefined): string {
  const asked = context.flags().context
  if (asked !== undefined) return parseContextName(asked)
  if (url !== undefined) return parseContextName(new URL(parseUrl(url, 'URL')).host.replace(/[[\]]/g, ''))
  const { current } = readContexts(context.io.env)
  if (current !== null) return current
  throw new PawlError('usage', 'no server is named', { hint: 'pawl login https://HOST:PORT --ca ca.crt' })
}

/**
 * Where the server is, and which root it must have. Nothing is believed because it was there first: the root comes from a
 * file, by its fingerprint, or from the same context of before.
 */
async function serverOf(
  context: Context,
  name: string,
  asked: string | undefined,
  { ca, caFingerprint }: LoginFlags,
): Promise<Server> {
  if (ca !== undefined && caFingerprint !== undefined)
    throw new PawlError('usage', '--ca and --ca-fingerprint are two ways to say the same', {
      hint: 'give one',
    })
  const { contexts } = readContexts(context.io.env)
  const known = Object.hasOwn(contexts, name) ? contexts[name] : undefined
  const url = asked === undefined ? known?.url : parseUrl(asked, 'URL')
  if (url === undefined)
    throw new PawlError('usage', `context ${name} is not there yet`, {
      hint: `pawl login URL --context ${name} --ca ca.crt`,
    })
  if (ca !== undefined) return { url, ca: parseCa(readCertificates(ca), ca) }
  if (caFingerprint !== undefined)
    return { url, ca: await fetchPinnedCa(url, parseFingerprint(caFingerprint)) }
  if (known?.url === url) return { url, ca: known.ca }
  throw new PawlError('usage', 'nothing says which root certificate this server must have', {
    hint: 'give --ca FILE with its ca.crt, or --ca-fingerprint with what openssl x509 -noout -fingerprint -sha256 -in ca.crt says there',
  })
}

interface Proven {
  readonly proof: Pick<StoredContext, 'token' | 'cert' | 'key'>
  readonly whoami: Whoami
}

/** Finds out by what we are known there, and asks whether we are. */
async function prove(context: Context, server: Server, flags: LoginFlags): Promise<Proven> {
  const { tokenStdin, cert, key } = flags
  if ((cert === undefined) !== (key === undefined))
    throw new PawlError('usage', '--cert and --key belong together')
  if (tokenStdin && cert !== undefined)
    throw new PawlError('usage', '--token-stdin and --cert are two ways to say who asks', {
      hint: 'give one',
    })
  if (cert !== undefined && key !== undefined) {
    const client = await readClient(cert, key)
    const whoami = await ask(connectionTo(server, { client }), (api) => api.get<Whoami>('/whoami'))
    return { proof: { cert: resolve(cert), key: resolve(key) }, whoami }
  }
  const token = tokenStdin
    ? parseToken((await readAll(context.io.stdin)).trim(), 'standard input')
    : await tokenOfPerson(context, server)
  return {
    proof: { token },
    whoami: await ask(connectionTo(server, { token }), (api) => api.get<Whoami>('/whoami')),
  }
}

/** Shows a code, and waits until a person has confirmed it in a browser. */
async function tokenOfPerson(context: Context, server: Server): Promise<string> {
  const wait = context.io.wait ?? pause
  return ask(connectionTo(server, {}), async (api) => {
    const label = `pawl on ${hostname()}`.replace(/[^ -~]/g, '?').slice(0, 100)
    const begun = await api.post<BegunLogin>('/logins', { label })
    context.output.note(`open ${begun.url} in a browser, sign in, and type the code`)
    context.output.note(`  ${begun.code}`)
    let { intervalSeconds } = begun
    while (context.io.now().getTime() < Date.parse(begun.expiresAt)) {
      await wait(intervalSeconds * 1000)
      const found = await poll(api, begun.request)
      if (found?.state === 'approved') return found.token
      if (found?.state === 'denied')
        throw new PawlError('forbidden', 'the code was turned down in the browser')
      intervalSeconds = found?.intervalSeconds ?? intervalSeconds
    }
    throw new PawlError('not-found', 'nobody confirmed the code in time', { hint: 'run pawl login again' })
  })
}

/** A server that is away for a moment, or busy, is asked again. */
async function poll(api: Api, request: string): Promise<LoginAnswer | undefined> {
  try {
    return await api.post<LoginAnswer>('/logins/finish', { request })
  } catch (error) {
    if (isPawlError(error, 'unreachable') || isPawlError(error, 'overloaded')) return undefined
    throw error
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

function connectionTo(
  { url, ca }: Server,
  { token, client }: Partial<Pick<Connection, 'token'>> & Pick<Connection, 'client'>,
): Connection {
  return {
    url,
    ca,
    token,
    ...(client === undefined ? {} : { client }),
    whenUnreachable: 'check the URL, and that the server runs',
    whenUnknown: 'is it of this server?',
  }
}

async function ask<T>(connection: Connection, work: (api: Api) => Promise<T>): Promise<T> {
  const api = openApi(connection)
  try {
    return await work(api)
  } finally {
    api.close()
  }
}

function untilOf({ expiresAt }: Whoami): string {
  return expiresAt === null ? '' : `, until ${formatTime(expiresAt)}`
}
