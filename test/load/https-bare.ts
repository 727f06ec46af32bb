import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tlsSettings } from '../../src/pki/tls.ts'

/**
 * The least that an HTTPS server in Node can be: node:https with the boot listener's certificates, chains, suites and tickets, and
 * answers that are ready in memory. No limits, no log, nothing is checked. What it costs a request is what Node and its OpenSSL
 * cost: no server in Node is below it. Not to be used for anything.
 */
const [dataDir = '', stageBytes = '0'] = process.argv.slice(2)
const read = (name: string): string => readFileSync(`${dataDir}/${name}`, 'utf8')
const own = ['pki/boot.pem', 'pki/boot-ecdsa.pem'].map(read)
const rest = read('pki/issuing.crt') + read('ca.crt')
const texts: Readonly<Record<string, string>> = { '/ok': 'ok', '/stage': 'x'.repeat(Number(stageBytes)) }

const server = createServer(
  { ...tlsSettings.boot, key: own, cert: own.map((one) => one + rest) },
  (request, response) => {
    const text = texts[request.url ?? ''] ?? ''
    response.writeHead(200, { 'content-type': 'text/plain', 'content-length': text.length })
    response.end(text)
  },
)
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
