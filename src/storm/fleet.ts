import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { PawlError } from '../errors.ts'
import { inParallel, type OperatorApi } from './api.ts'
import { imageRefOf } from './images.ts'
import { loopbackAddress, mark, nameOf, nodeNameOf } from './marks.ts'
import type { SimulatedNode, Target } from './plan.ts'

/** By what the nodes prove who they are. */
export type StormEvidence = 'address' | 'secret'

/** What to register. */
export interface StormFleet {
  readonly id: string
  readonly nodes: number
  readonly evidence: StormEvidence
  /** The publisher who signed the images; undefined: they are not signed. */
  readonly publisher: string | undefined
}

/** Nodes of one request: the server takes 20,000. */
const batch = 10_000
const secretsAtOnce = 8

/** One node more than boots: its stage 1 is asked, and the size of records looked at. */
export const probes = 1

/** Registers the profile and the nodes, in a set of fleet files of their own. Returns when the server says it was, by its clock. */
export async function registerFleet(api: OperatorApi, fleet: StormFleet): Promise<string> {
  const { id, evidence, publisher } = fleet
  const nodes = fleet.nodes + probes
  const profile = {
    name: nameOf(id),
    evidence: [evidence],
    ...(publisher === undefined ? { acceptUnsigned: true } : { publishers: [publisher] }),
    boot: { stage2: imageRefOf(id, 'stage2'), stage3: imageRefOf(id, 'stage3') },
  }
  for (let from = 0; from < nodes; from += batch) {
    const indices = Array.from({ length: Math.min(batch, nodes - from) }, (_, at) => from + at)
    await api.post('/fleet', {
      set: nameOf(id),
      profiles: [profile],
      channels: [],
      nodes: indices.map((index) => ({
        name: nodeNameOf(id, index),
        profile: nameOf(id),
        labels: { [mark]: id },
        addresses: evidence === 'address' ? [loopbackAddress(index)] : [],
      })),
    })
  }
  const { createdAt } = await api.get<{ createdAt: string }>(`/profiles/${nameOf(id)}`)
  return createdAt
}

/** The nodes as the clients need them, and the probe behind them; those that prove themselves by a secret are issued one each. */
export async function simulatedNodes(
  api: OperatorApi,
  { id, nodes, evidence }: StormFleet,
  arrivalSeconds: number,
  onSecret: (issued: number) => void,
  stop: AbortSignal,
): Promise<SimulatedNode[]> {
  const secrets: string[] = []
  const indices = Array.from({ length: nodes + probes }, (_, index) => index)
  if (evidence === 'secret') {
    let issued = 0
    await inParallel(indices, secretsAtOnce, async (index) => {
      if (stop.aborted) throw stop.reason
      const { secret } = await api.post<{ secret: string }>(`/nodes/${nodeNameOf(id, index)}/secret`)
      secrets[index] = secret
      issued += 1
      onSecret(issued)
    })
  }
  return indices.map((index) => ({
    name: nodeNameOf(id, index),
    index,
    // Spread evenly, and each a little beside its place.
    arrivesAt: ((index + Math.random()) / nodes) * arrivalSeconds,
    address: evidence === 'address' ? loopbackAddress(index) : undefined,
    secret: secrets[index],
  }))
}

/** What to aim at, as it was asked for. */
export interface Aim {
  /** `https://HOST:PORT` of the boot listener; undefined: where machines are sent, or the data folder's own server. */
  readonly bootUrl: string | undefined
  /** Where the server of the data folder says that it listens. */
  readonly announced: string | undefined
  readonly evidence: StormEvidence | 'auto'
}

interface Entry {
  readonly publicUrl: string
  readonly certificates: string
}

/** Finds the boot listener, and how the nodes can prove themselves there. Throws `usage` where the two do not fit. */
export async function findTarget(
  api: OperatorApi,
  { bootUrl, announced, evidence }: Aim,
): Promise<{ target: Target; evidence: StormEvidence }> {
  const { entries } = await api.get<{ entries: readonly Entry[] }>('/roots')
  const [entry] = entries
  if (entry === undefined) throw new PawlError('unreachable', 'the server tells no boot listener')
  const url = new URL(bootUrl ?? entry.publicUrl)
  // The server of the data folder is on this machine, whatever its public name leads to from here.
  const listens = bootUrl === undefined && announced !== undefined ? new URL(announced) : url
  const name = bare(url.hostname)
  const host = await addressOf(bare(listens.hostname))
  const target = {
    host,
    port: Number(listens.port === '' ? 443 : listens.port),
    name,
    ca: entry.certificates,
  }
  const local = /^127\./.test(host)
  if (evidence === 'address' && !local)
    throw new PawlError(
      'usage',
      `nodes can have addresses of their own on loopback alone, and the server is at ${host}`,
      {
        hint: 'use --evidence secret',
      },
    )
  return { target, evidence: evidence === 'auto' ? (local ? 'address' : 'secret') : evidence }
}

async function addressOf(host: string): Promise<string> {
  // A listener on all addresses is on loopback too; IPv6 has only one address there.
  if (host === '::' || host === '0.0.0.0' || host === '::1') return '127.0.0.1'
  if (isIP(host) !== 0) return host
  return lookup(host, { order: 'ipv4first' }).then(
    ({ address }) => (address === '::1' ? '127.0.0.1' : address),
    () => {
      throw new PawlError('unreachable', `the name ${host} cannot be looked up`, {
        hint: 'name the boot listener with --boot-url https://HOST:PORT',
      })
    },
  )
}

function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '')
}
