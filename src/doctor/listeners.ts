import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { request } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type DetailedPeerCertificate } from 'node:tls'
import { findPublicFile, findSecretFile } from '../pki/key-file.ts'
import { mainRootFile } from '../pki/places.ts'
import { localProxyHeader, wantsProxyHeader } from './boot-target.ts'
import { type Finding, fail, ok, type Subject, warn } from './finding.ts'
import { mainGeneration, ownFiles } from './roots.ts'

const patience = 4000

/** What a UEFI's HTTPS Boot offers: TLS 1.2, RSA for everything. */
const asFirmware: ConnectionOptions = {
  maxVersion: 'TLSv1.2',
  ciphers: 'AES256-GCM-SHA384:AES128-GCM-SHA256',
}

/** Asks the running server as boot firmware and as an operator would. */
export async function listeners(subject: Subject): Promise<Finding[]> {
  const { announced, isAlive, dataDir } = subject
  const start = `start it with pawl server --data ${dataDir}, or systemctl start pawl`
  if (announced === undefined) return [warn('server', 'has never run on this data folder', start)]
  const url = new URL(announced.boot)
  if (!(await answers(url))) {
    if (isAlive(announced.pid)) {
      return [
        fail(
          'server',
          `process ${announced.pid} is there, and nothing answers at ${announced.boot}`,
          'look at its log; if that process is another program, start the server',
        ),
      ]
    }
    return [warn('server', 'does not run', start)]
  }
  const older = announced.version !== undefined && announced.version !== subject.version
  return [
    older
      ? warn('server', `runs version ${announced.version}, and this is ${subject.version}`, 'restart it')
      : ok('server', `runs as process ${announced.pid}, version ${announced.version ?? 'unknown'}`),
    await bootListener(subject, url),
    ...(await operatorListener(subject, new URL(announced.operator))),
  ]
}

async function answers(url: URL): Promise<boolean> {
  const socket = connectTcp({ host: hostOf(url), port: Number(url.port) }).on('error', () => {})
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(patience) })
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

async function bootListener(subject: Subject, url: URL): Promise<Finding> {
  const check = 'boot listener'
  const header = wantsProxyHeader(url, subject.config.proxyProtocolFrom)
  const sent = await handshake(url, asFirmware, header).catch((error: unknown) => error)
  if (!Array.isArray(sent)) {
    return fail(
      check,
      `refuses old boot firmware (TLS 1.2 with RSA suites): ${wordsOf(sent)}`,
      'is something else in front of it, or on its port? Firmware needs RSA suites',
    )
  }
  const chain = sent as X509Certificate[]
  const [leaf] = chain
  const roots = findPublicFile(mainRootFile(subject.dataDir, subject.config)) ?? ''
  const onDisk = fileOf(subject, 'boot')
  if (leaf === undefined || !onDisk.has(leaf)) {
    return fail(
      check,
      `answers with another certificate than ${onDisk.name}`,
      'restart the server, or read in its log why it did not take it; is another server on this port?',
    )
  }
  if (!chain.some((one) => isIn(roots, one))) {
    return fail(
      check,
      'does not send the root',
      'iPXE that knows only a fingerprint needs it: is a proxy in front of it?',
    )
  }
  return ok(check, `${url.origin} answers old firmware, with leaf and root`)
}

async function operatorListener(subject: Subject, url: URL): Promise<Finding[]> {
  const check = 'operator listener'
  const ca = findPublicFile(subject.config.operatorCaFile ?? join(subject.dataDir, 'ca.crt'))
  const sent = await handshake(url, {
    minVersion: 'TLSv1.3',
    ...(ca === undefined ? {} : { ca }),
    rejectUnauthorized: true,
  }).catch((error: unknown) => error)
  if (!Array.isArray(sent)) {
    return [
      fail(
        check,
        `does not speak TLS 1.3 by our CA: ${wordsOf(sent)}`,
        'restart the server; is another server on this port?',
      ),
    ]
  }
  const { status, date } = await ask(url, ca).catch(() => ({ status: 0, date: undefined }))
  if (status !== 200) {
    return [
      fail(
        check,
        status === 0 ? 'does not answer' : `is not ready (${status})`,
        'look at the log: the database does not answer',
      ),
    ]
  }
  const off = date === undefined ? 0 : Math.abs(Date.parse(date) - subject.now.getTime())
  return [
    ok(check, `${url.origin} is ready`),
    ...(off > 60_000
      ? [
          fail(
            'clock',
            `the server's is ${Math.round(off / 1000)} s off ours`,
            'set the clock of both by NTP',
          ),
        ]
      : []),
  ]
}

/** The file with the RSA certificate that a listener should have: ours, or the operator's own. */
function fileOf(subject: Subject, kind: 'boot'): { name: string; has: (leaf: X509Certificate) => boolean } {
  const own = ownFiles(subject, kind)?.pairs ?? []
  const generation = mainGeneration(subject)
  const name = `${generation === 'next' ? 'pki/next' : 'pki'}/${kind}.pem`
  const text = findSecretFile(join(subject.dataDir, name)) ?? ''
  const ours = text.slice(Math.max(0, text.indexOf('-----BEGIN CERTIFICATE-----')))
  if (own.length === 0) return { name, has: (leaf) => isIn(ours, leaf) }
  const texts = own.map(({ certFile }) => findPublicFile(certFile) ?? '').join('')
  return { name: own.map(({ certFile }) => certFile).join(' or '), has: (leaf) => isIn(texts, leaf) }
}

function isIn(pem: string, certificate: X509Certificate): boolean {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.some((block) => new X509Certificate(block).fingerprint256 === certificate.fingerprint256)
}

/** The certificates that a listener sends, the leaf first. */
async function handshake(
  url: URL,
  options: ConnectionOptions,
  proxyHeader = false,
): Promise<X509Certificate[]> {
  const below = connectTcp({ host: hostOf(url), port: Number(url.port) })
  // It is buffered until the connection is there, and goes before the hello.
  if (proxyHeader) below.write(localProxyHeader)
  const socket = connect({ socket: below, host: hostOf(url), rejectUnauthorized: false, ...options })
  socket.on('error', () => {}) // told by what waits; one may come later, too
  try {
    await once(socket, 'secureConnect', { signal: AbortSignal.timeout(patience) })
    const chain: X509Certificate[] = []
    let one: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true)
    while (one?.raw !== undefined && !chain.some(({ raw }) => raw.equals(one?.raw ?? Buffer.alloc(0)))) {
      chain.push(new X509Certificate(one.raw))
      one = one.issuerCertificate
    }
    return chain
  } finally {
    socket.destroy()
  }
}

function ask(url: URL, ca: string | undefined): Promise<{ status: number; date: string | undefined }> {
  return new Promise((resolve, reject) => {
    const asked = request(
      new URL('/readyz', url),
      { agent: false, timeout: patience, ...(ca === undefined ? {} : { ca }) },
      (response) => {
        response.resume()
        resolve({ status: response.statusCode ?? 0, date: response.headers.date })
      },
    )
    asked.on('timeout', () => asked.destroy(new Error('no answer')))
    asked.on('error', reject)
    asked.end()
  })
}

function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '')
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message.replace(/^[0-9A-F]+:/, '').slice(0, 200) : String(error)
}
