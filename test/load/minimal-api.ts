import { readFileSync } from 'node:fs'
import Fastify from 'fastify'

/** The least that serves the same: Fastify over HTTPS with the same certificate, which sends a document it has in memory. */
const [dataDir = '', documents = ''] = process.argv.slice(2)
const read = (name: string): string => readFileSync(`${dataDir}/${name}`, 'utf8')
const own = read('pki/operator.pem')
const answers = JSON.parse(readFileSync(documents, 'utf8')) as Record<string, unknown>
const app = Fastify({
  https: { key: own, cert: own + read('pki/issuing.crt') + read('ca.crt'), minVersion: 'TLSv1.3' },
})
for (const [name, answer] of Object.entries(answers)) app.get(`/${name}`, async () => answer)
await app.listen({ host: '127.0.0.1', port: 0 })
process.stdout.write(`${JSON.stringify({ port: (app.server.address() as { port: number }).port })}\n`)
