import type { Option } from '../../src/tftp/packet.ts'
import { fetchTftp } from '../helpers/tftp-client.ts'

/** A process that fetches a file by TFTP for many clients at once, again and again, and prints the bytes that came. */
const [port = '', clients = '', rounds = '', blockSize = '', windowSize = ''] = process.argv.slice(2)
const options: Option[] = [
  ['blksize', blockSize],
  ['windowsize', windowSize],
]
let bytes = 0
let repeats = 0
for (let round = 0; round < Number(rounds); round += 1) {
  const all = await Promise.all(
    Array.from({ length: Number(clients) }, (_, client) =>
      // Each from an address of its own, as machines are.
      fetchTftp({ port: Number(port), name: 'file', options, from: `127.0.1.${client + 1}`, keep: false }),
    ),
  )
  for (const one of all) {
    bytes += one.bytes
    repeats += one.repeats
  }
}
process.stdout.write(`${JSON.stringify({ bytes, repeats })}\n`)
