import { isIP } from 'node:net'
import type { KnownClient } from './known-clients.ts'

const serverName = 0

/**
 * A known client's hello as it would say it to this host: with its name in it. iPXE and newer EDK2 name addresses too, which the
 * standard forbids; others leave an address out. A client that was captured without a name sends none.
 */
export function helloFor(client: KnownClient, host: string): Buffer {
  const { bytes, hello, kind } = client
  if (!hello.extensions.includes(serverName)) return bytes
  const named = kind === 'ipxe' || kind === 'firmware' || isIP(host) === 0
  return withServerName(bytes, named ? host : undefined)
}

/** Puts another name in the place of the one that is there. The hello is one of ours: one record, and well formed. */
function withServerName(bytes: Buffer, name: string | undefined): Buffer {
  const message = bytes.subarray(5)
  const start = extensionsAt(message)
  const parts: Buffer[] = []
  for (let at = start + 2; at + 4 <= message.length; ) {
    const end = at + 4 + message.readUInt16BE(at + 2)
    if (message.readUInt16BE(at) !== serverName) parts.push(message.subarray(at, end))
    else if (name !== undefined) parts.push(nameExtension(name))
    at = end
  }
  const extensions = Buffer.concat(parts)
  const body = Buffer.concat([message.subarray(4, start), sized(extensions, 2)])
  return Buffer.concat([
    bytes.subarray(0, 3),
    sized(Buffer.concat([message.subarray(0, 1), sized(body, 3)]), 2),
  ])
}

function nameExtension(name: string): Buffer {
  const entry = Buffer.concat([Buffer.from([0]), sized(Buffer.from(name, 'latin1'), 2)])
  return Buffer.concat([Buffer.from([0, serverName]), sized(sized(entry, 2), 2)])
}

/** With its length before it. */
function sized(content: Buffer, lengthBytes: 2 | 3): Buffer {
  const length = Buffer.alloc(lengthBytes)
  length.writeUIntBE(content.length, 0, lengthBytes)
  return Buffer.concat([length, content])
}

/** Where the length of the extensions is: behind version, random, session, suites and compression. */
function extensionsAt(message: Buffer): number {
  const session = 4 + 2 + 32
  const suites = session + 1 + message.readUInt8(session)
  const compression = suites + 2 + message.readUInt16BE(suites)
  return compression + 1 + message.readUInt8(compression)
}
