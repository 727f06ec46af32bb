import type { Readable } from 'node:stream'
import { PawlError } from '../errors.ts'

const maxBytes = 64 * 1024

/** The first line of stdin: for what a flag would show to every user of the machine. Throws `usage` where there is none. */
export async function readLine(stdin: Readable, what: string): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stdin as AsyncIterable<Buffer | string>) {
    const part = Buffer.from(chunk)
    bytes += part.length
    if (bytes > maxBytes) throw new PawlError('usage', `stdin is longer than ${what} can be`)
    chunks.push(part)
    if (part.includes(10)) break
  }
  const line = Buffer.concat(chunks).toString('utf8').split('\n')[0]?.trim() ?? ''
  if (line === '') throw new PawlError('usage', `there is no ${what} on stdin`)
  return line
}
