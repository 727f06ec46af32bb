import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tlsSettings } from '../../src/pki/tls.ts'

/**
 * The least that sending a file over HTTPS can be in Node: slices of 1 MiB of one buffer, with the boot listener's certificates and
 * suites. No limits, no log, nothing is checked or counted, and nobody who stalls is thought of: what it costs a byte is what Node
 * and its OpenSSL cost. Not to be used for anything.
 */
const [dataDir = ''] = process.argv.slice(2)
const sliceBytes = 2 ** 20
const read = (name: string): string => readFileSync(`${dataDir}/${name}`, 'utf8')
const own = ['pki/boot.pem', 'pki/boot-ecdsa.pem'].map(read)
const rest = read('pki/issuing.crt') + read('ca.crt')
const files = Object.fromEntries(
  ['large', 'larger'].map((name) => [`/${name}`, readFileSync(`${dataDir}/../${name}`)]),
)

const server = createServer(
  { ...tlsSettings.boot, key: own, cert: own.map((one) => one + rest) },
  (request, response) => {
    const bytes = files[request.url ?? ''] ?? Buffer.alloc(0)
    response.writeHead(200, { 'content-length': bytes.length })
    let at = 0
    const next = (): void => {
      if (at >= bytes.length) {
        response.end()
        return
      }
      const slice = bytes.subarray(at, at + sliceBytes)
      at += slice.length
      response.write(slice, next)
    }
    next()
  },
)
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
