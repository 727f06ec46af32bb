import { createPrivateKey, X509Certificate } from 'node:crypto'
import { parseDocument } from 'yaml'
import { isPawlError, PawlError } from '../errors.ts'

/**
 * Reads a kubeconfig, as far as a server may use one that somebody else wrote: it opens no file, runs no program and trusts
 * no CA but the one inside. Everything else that a kubeconfig can say is refused in words. No message repeats what was read:
 * a kubeconfig is a secret.
 */

/** A cluster's API, and what proves us to it. */
export interface Kubeconfig {
  /** https, without credentials, query or fragment. */
  readonly server: URL
  /** PEM: the only roots that the API server is believed by. */
  readonly ca: string
  /** The name that its certificate is for, where that is not the URL's. */
  readonly serverName: string | undefined
  readonly token: string | undefined
  readonly certificate: { readonly certificate: string; readonly key: string } | undefined
  /** When each part ends, as far as it says so itself. */
  readonly ends: readonly KubeconfigEnd[]
}

/** When a part of a kubeconfig ends. */
export interface KubeconfigEnd {
  readonly part: 'CA certificate' | 'client certificate' | 'token'
  readonly at: Date
}

/** Far above any real one: a client certificate with its chain has about 10 KiB. */
export const maxKubeconfigBytes = 65_536

type Entry = Readonly<Record<string, unknown>>

/** Reads the text of a kubeconfig; throws `invalid` that names each field that is wrong. */
export function readKubeconfig(text: string): Kubeconfig {
  const all = documentOf(text)
  const context = named(all, 'contexts', 'context', textAt(all, 'current-context', 'current-context'))
  const [cluster, user] = together(
    () =>
      clusterOf(named(all, 'clusters', 'cluster', textAt(context, 'cluster', 'contexts[].context.cluster'))),
    () => userOf(named(all, 'users', 'user', textAt(context, 'user', 'contexts[].context.user'))),
  )
  const { ca, server, serverName } = cluster
  const { token, certificate } = user
  return {
    ...{ server, ca: ca.pem, serverName, token },
    certificate: certificate && { certificate: certificate.certificate, key: certificate.key },
    ends: [
      { part: 'CA certificate', at: ca.endsAt },
      ...(certificate === undefined
        ? []
        : ([{ part: 'client certificate', at: certificate.endsAt }] as const)),
      ...endOfToken(token),
    ],
  }
}

/** The parts of a kubeconfig that have ended. */
export function endedParts({ ends }: Pick<Kubeconfig, 'ends'>, now: Date): KubeconfigEnd[] {
  return ends.filter(({ at }) => at <= now)
}

/** The same in words; undefined while all of it is good. */
export function endedInWords(config: Pick<Kubeconfig, 'ends'>, now: Date): string | undefined {
  const parts = endedParts(config, now).map(({ part, at }) => `${part} ended at ${at.toISOString()}`)
  return parts.length === 0 ? undefined : `the kubeconfig's ${parts.join(', its ')}`
}

/** Does each step, and throws what all of them find wrong as one. */
function together<Got extends unknown[]>(...steps: { [At in keyof Got]: () => Got[At] }): Got {
  const faults: string[] = []
  const got = steps.map((step) => {
    try {
      return step()
    } catch (error) {
      if (!isPawlError(error, 'invalid')) throw error
      faults.push(error.message.slice(begin.length))
      return undefined
    }
  })
  if (faults.length > 0) throw wrong(faults.join('; '))
  return got as Got // no step threw
}

function clusterOf(cluster: Entry) {
  const [, ca, server, serverName] = together(
    () => refuse(cluster, 'cluster', refusedOfCluster),
    () => authorityOf(cluster),
    () => serverOf(cluster),
    () => serverNameOf(cluster),
  )
  return { ca, server, serverName }
}

function userOf(user: Entry) {
  const [, token, certificate] = together(
    () => refuse(user, 'user', refusedOfUser),
    () => tokenOf(user),
    () => certificateOf(user),
  )
  if (token === undefined && certificate === undefined)
    throw wrong('user has neither token nor client-certificate-data and client-key-data')
  return { token, certificate }
}

function documentOf(text: string): Entry {
  if (Buffer.byteLength(text) > maxKubeconfigBytes) throw wrong(`is larger than ${maxKubeconfigBytes} bytes`)
  const document = parseDocument(text, { logLevel: 'silent', uniqueKeys: true })
  const [fault] = document.errors
  if (fault !== undefined)
    throw wrong(`is not YAML${fault.linePos ? `: look at line ${fault.linePos[0].line}` : ''}`)
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: 0 }) // aliases can make gigabytes of a few lines
  } catch {
    throw wrong('has YAML aliases, which are not read')
  }
  const all = entryOf(value)
  if (all === undefined) throw wrong('is not a mapping')
  if (all.kind !== 'Config' || all.apiVersion !== 'v1')
    throw wrong('is not "kind: Config" of "apiVersion: v1"')
  return all
}

/** The one entry of a list that has this name. */
function named(all: Entry, list: string, key: string, name: string): Entry {
  const entries = all[list]
  if (!Array.isArray(entries)) throw wrong(`${list} is not a list`)
  const found = entries.map(entryOf).filter((entry) => entry?.name === name)
  if (found.length === 0) throw wrong(`${list} has no entry of the name that is asked for`)
  if (found.length > 1) throw wrong(`${list} has two entries of one name`)
  const entry = entryOf(found[0]?.[key])
  if (entry === undefined) throw wrong(`${list}[].${key} is not a mapping`)
  return entry
}

const inline = 'embed it with "kubectl config view --flatten --minify"'

/** What a kubeconfig may say and this reader does not do, and why. */
const refusedOfCluster: Readonly<Record<string, string>> = {
  'certificate-authority': `names a file, which is not read: ${inline}`,
  'insecure-skip-tls-verify': 'would send credentials to whoever answers',
  'proxy-url': 'is not used: the API is reached directly',
}

const refusedOfUser: Readonly<Record<string, string>> = {
  'client-certificate': `names a file, which is not read: ${inline}`,
  'client-key': `names a file, which is not read: ${inline}`,
  tokenFile: 'names a file, which is not read: write the token itself',
  exec: 'names a program, which is not run: use a token of a service account',
  'auth-provider': 'names a provider, which is not asked: use a token of a service account',
  username: 'is basic authentication, which Kubernetes ended in 1.19',
  password: 'is basic authentication, which Kubernetes ended in 1.19',
  as: 'is impersonation: use the credential of the account itself',
  'as-uid': 'is impersonation: use the credential of the account itself',
  'as-groups': 'is impersonation: use the credential of the account itself',
  'as-user-extra': 'is impersonation: use the credential of the account itself',
}

function refuse(entry: Entry, at: string, refused: Readonly<Record<string, string>>): void {
  const faults: string[] = []
  for (const [key, why] of Object.entries(refused)) {
    const value = entry[key]
    if (value !== undefined && value !== null && value !== false && value !== '')
      faults.push(`${at}.${key} ${why}`)
  }
  if (faults.length > 0) throw wrong(faults.join('; '))
}

function serverNameOf(cluster: Entry): string | undefined {
  const name = optionalTextAt(cluster, 'tls-server-name', 'cluster.tls-server-name')
  if (name !== undefined && !/^[A-Za-z0-9.:-]{1,253}$/.test(name))
    throw wrong('cluster.tls-server-name is no host name')
  return name
}

function serverOf(cluster: Entry): URL {
  const text = textAt(cluster, 'server', 'cluster.server')
  if (!URL.canParse(text) || text.length > 1024) throw wrong('cluster.server is no URL')
  const server = new URL(text)
  if (server.protocol !== 'https:') throw wrong('cluster.server is not an https:// URL')
  if (server.username !== '' || server.password !== '') throw wrong('cluster.server has credentials in it')
  if (server.search !== '' || server.hash !== '') throw wrong('cluster.server has a query or a fragment')
  return server
}

function authorityOf(cluster: Entry): { pem: string; endsAt: Date } {
  const at = 'certificate-authority-data'
  const pem = pemAt(cluster, at, `cluster.${at}`)
  if (pem === undefined)
    throw wrong(`cluster.${at} is missing: the CA must be named, the system's roots are not used`)
  const certificates = certificatesOf(pem, `cluster.${at}`)
  // A bundle is good until its last: one that has ended stays in it while CAs are exchanged.
  return { pem, endsAt: new Date(Math.max(...certificates.map(({ validTo }) => Date.parse(validTo)))) }
}

function certificateOf(user: Entry): { certificate: string; key: string; endsAt: Date } | undefined {
  const certificate = pemAt(user, 'client-certificate-data', 'user.client-certificate-data')
  const key = pemAt(user, 'client-key-data', 'user.client-key-data')
  if (certificate === undefined && key === undefined) return undefined
  if (certificate === undefined) throw wrong('user.client-certificate-data is missing beside client-key-data')
  if (key === undefined) throw wrong('user.client-key-data is missing beside client-certificate-data')
  const [own] = certificatesOf(certificate, 'user.client-certificate-data')
  if (own === undefined || !belongs(own, key))
    throw wrong('user.client-key-data is not the key of its certificate')
  return { certificate, key, endsAt: new Date(own.validTo) }
}

function belongs(certificate: X509Certificate, key: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key))
  } catch {
    throw wrong('user.client-key-data is no private key in PEM, or one with a passphrase')
  }
}

function certificatesOf(pem: string, at: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  if (blocks.length === 0 || blocks.length > 32)
    throw wrong(`${at} has no certificate in PEM, or more than 32`)
  try {
    return blocks.map((block) => new X509Certificate(block))
  } catch {
    throw wrong(`${at} has a certificate that cannot be read`)
  }
}

function tokenOf(user: Entry): string | undefined {
  const token = optionalTextAt(user, 'token', 'user.token')
  if (token !== undefined && !/^[!-~]{1,16384}$/.test(token))
    throw wrong('user.token has characters that a header cannot carry')
  return token
}

/** A service account's token is a JWT, and says itself when it ends (RFC 7519 §4.1.4); it is the API that judges it. */
function endOfToken(token: string | undefined): KubeconfigEnd[] {
  const [, claims] = token?.split('.') ?? []
  if (claims === undefined) return []
  try {
    const { exp } = JSON.parse(Buffer.from(claims, 'base64url').toString('utf8')) as { exp?: unknown }
    if (typeof exp !== 'number' || !(exp > 0 && exp < 1e11)) return []
    return [{ part: 'token', at: new Date(exp * 1000) }]
  } catch {
    return []
  }
}

function pemAt(entry: Entry, key: string, at: string): string | undefined {
  const text = optionalTextAt(entry, key, at)
  if (text === undefined) return undefined
  const packed = text.replace(/\s+/g, '')
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(packed)) throw wrong(`${at} is not base64`)
  return Buffer.from(packed, 'base64').toString('latin1')
}

function textAt(entry: Entry, key: string, at: string): string {
  const text = optionalTextAt(entry, key, at)
  if (text === undefined) throw wrong(`${at} is missing`)
  return text
}

function optionalTextAt(entry: Entry, key: string, at: string): string | undefined {
  const value = entry[key]
  if (value === undefined || value === null || value === '') return undefined
  if (typeof value !== 'string') throw wrong(`${at} is not text`)
  return value
}

function entryOf(value: unknown): Entry | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Entry) : undefined // checked on this line
}

const begin = 'kubeconfig: '

function wrong(what: string): PawlError {
  return new PawlError('invalid', `${begin}${what}`)
}
