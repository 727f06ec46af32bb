import { spawn } from 'node:child_process'
import { Connections, openPersonas } from './connections.ts'
import { readScript, stage1Request } from './firmware.ts'
import { HandshakeRoom } from './handshake-room.ts'
import type { CrewPlan, SimulatedNode } from './plan.ts'
import { ask } from './wire.ts'

/** What a client got that asks for records of 4096 bytes, as iPXE does. */
export interface RecordSample {
  /** The largest TLS record that carried data, in bytes on the wire. */
  readonly largestBytes: number
  readonly records: number
  readonly honoured: boolean
}

/** What max_fragment_length allows (RFC 6066 §4), and what the suites of TLS 1.2 add to it at most. */
const limitBytes = { fragment: 4096, overhead: 64 }
const patienceMilliseconds = 20_000

/**
 * Loads the kernel of one node with `openssl s_client`, which can ask for small records; node:tls cannot. Undefined where OpenSSL
 * is not installed, or the sample did not succeed: it is a proof beside the storm, not a part of it.
 */
export async function sampleRecords(
  plan: Omit<CrewPlan, 'nodes'>,
  node: SimulatedNode,
): Promise<RecordSample | undefined> {
  try {
    const path = await kernelPathOf(plan, node)
    if (path === undefined) return undefined
    const { host, port, name } = plan.target
    const shown = await sClient(
      ['-connect', `${host.includes(':') ? `[${host}]` : host}:${port}`],
      `GET ${path} HTTP/1.1\r\nHost: ${name}:${port}\r\nConnection: close\r\n\r\n`,
    )
    return readRecords(shown)
  } catch {
    return undefined
  }
}

/** Asks stage 1 as the firmware of this node, which has no other use. */
async function kernelPathOf(plan: Omit<CrewPlan, 'nodes'>, node: SimulatedNode): Promise<string | undefined> {
  const connections = new Connections({
    target: plan.target,
    personas: openPersonas(plan.target, plan.behaviour),
    address: node.address,
    resumes: false,
    onHandshake: () => undefined,
    room: new HandshakeRoom(() => undefined),
  })
  try {
    const socket = await connections.firmware()
    const { body } = await ask(socket, plan.target.name, stage1Request(node))
    return readScript(body.toString('latin1'))?.kernel
  } finally {
    connections.cut()
  }
}

/** The request goes by stdin: its capability is in no argument. */
function sClient(where: readonly string[], request: string): Promise<string> {
  const child = spawn(
    'openssl',
    ['s_client', ...where, '-tls1_2', '-maxfraglen', '4096', '-quiet', '-msg', '-ign_eof'],
    {
      stdio: ['pipe', 'pipe', 'ignore'],
      timeout: patienceMilliseconds,
    },
  )
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = []
    child.on('error', reject)
    child.stdin.on('error', () => undefined)
    child.stdout.on('data', (part: Buffer) => parts.push(part))
    child.once('close', () => resolve(Buffer.concat(parts).toString('latin1')))
    child.stdin.end(request)
  })
}

/** Reads what `-msg` tells: each record's five header bytes, 17 for data, after a line that says who sent it. */
export function readRecords(shown: string): RecordSample | undefined {
  const headers = shown.matchAll(
    /<<< TLS 1\.2, RecordHeader \[length 0005\]\s+17 03 03 ([0-9a-f]{2}) ([0-9a-f]{2})/g,
  )
  const lengths = [...headers].map(([, high, low]) => Number.parseInt(`${high}${low}`, 16))
  if (lengths.length === 0) return undefined
  const largestBytes = Math.max(...lengths)
  const most = limitBytes.fragment + limitBytes.overhead
  return { largestBytes, records: lengths.length, honoured: largestBytes <= most }
}
