import type { SimulatedNode, Step } from './plan.ts'
import { askAsFirmware, type Client, Failed, Received } from './requests.ts'
import { Backoff, wait } from './waits.ts'
import type { WireRequest } from './wire.ts'

/** What iPXE hands to the kernel as `/pawl.json`, as far as the agent needs it. */
export interface Handover {
  readonly session: string
  /** The path of the node's routes. */
  readonly base: string
  readonly stage2: string
  readonly report: string
}

/** What the firmware tells of what it saw. */
export interface FirmwareNotes {
  /** A stage 1 was answered: a session is open. */
  readonly opened: (session: string) => void
  readonly handedOver: (session: string) => void
  /** A step begins. */
  readonly at: (step: Step) => void
}

/** What the firmware boots, and where it must find it. */
export interface Booting {
  readonly node: SimulatedNode
  /** SHA-256, hex. */
  readonly digests: { readonly kernel: string; readonly initramfs: string }
}

/** The site script's waits, and those of the script that stage 1 answers with (ipxe-templates). */
const siteWaits = { first: 5, most: 300 }
const scriptWaits = { first: 2, most: 128 }

interface Script {
  readonly session: string
  readonly kernel: string
  readonly initramfs: string
  readonly handover: string
}

/** Boots as iPXE does: asks stage 1, loads what its script says, and asks again for ever. Returns what the kernel is started with. */
export async function runFirmware(client: Client, booting: Booting, notes: FirmwareNotes): Promise<Handover> {
  const waits = new Backoff(siteWaits.first, siteWaits.most, client.behaviour.hurry)
  for (;;) {
    try {
      notes.at('stage1')
      const { body } = await patiently(client, 'stage1', stage1Request(booting.node))
      const script = readScript(body.toString('latin1'))
      if (script === undefined) throw new Failed('stage1', 'a script that boots nothing')
      notes.opened(script.session)
      const handover = await runScript(client, booting, script, notes)
      client.connections.leaveFirmware()
      return handover
    } catch (error) {
      if (!(error instanceof Failed)) throw error
      client.tally.retry()
      await wait(waits.next(), client.signal)
    }
  }
}

/** iPXE itself waits for a 503 as long as it says, and asks again (net/tcp/httpcore.c). */
async function patiently(client: Client, step: Step, request: WireRequest): Promise<{ body: Buffer }> {
  for (;;) {
    try {
      return await askAsFirmware(client, step, request)
    } catch (error) {
      if (!(error instanceof Failed) || error.status !== 503 || error.retryAfterSeconds === 0) throw error
      client.tally.retry()
      await wait(error.retryAfterSeconds, client.signal)
    }
  }
}

/** Stage 1 as the site script asks it. */
export function stage1Request({ name, index, secret }: SimulatedNode): WireRequest {
  const hex = index.toString(16).padStart(8, '0')
  const mac = `02-70-${(hex.match(/../g) ?? []).join('-')}`
  const facts = new URLSearchParams({
    platform: 'efi',
    buildarch: 'x86_64',
    version: '1.21.1+ (pawl storm)',
    mac,
    uuid: `70617761-6c00-4000-8000-0000${hex}`,
    serial: name,
    manufacturer: 'pawl storm',
    ip: '192.0.2.2',
    netmask: '255.255.255.0',
    ...(secret === undefined ? {} : { secret }),
  })
  // iPXE's encoding of a blank; in a query of Pawl's a plus sign is one.
  const query = facts.toString().replaceAll('+', '%20')
  return { method: 'GET', path: `/v1/boot/${name}/stage1.ipxe?${query}` }
}

/** The paths in a stage-1 script; undefined where it boots nothing: a held node, the local disk. */
export function readScript(text: string): Script | undefined {
  const path = (pattern: RegExp): string | undefined =>
    pattern.exec(text)?.[1]?.replace(/^https:\/\/[^/]+/, '')
  const session = /^echo Pawl: node \S+, boot session (\S+)$/m.exec(text)?.[1]
  const kernel = path(/^kernel .*?(https:\/\/\S+)/m)
  const initramfs = path(/^initrd --name initramfs .*?(https:\/\/\S+)/m)
  const handover = path(/^initrd --name handover .*?(https:\/\/\S+)/m)
  if (session === undefined || kernel === undefined || initramfs === undefined || handover === undefined)
    return undefined
  return { session, kernel, initramfs, handover }
}

async function runScript(
  client: Client,
  { digests }: Booting,
  script: Script,
  notes: FirmwareNotes,
): Promise<Handover> {
  for (const [role, path] of [
    ['kernel', script.kernel],
    ['initramfs', script.initramfs],
  ] as const) {
    const step = `ipxe-${role}` as const
    notes.at(step)
    const digest = await tried(client, () => download(client, step, path))
    if (digest !== undefined && digest !== digests[role]) {
      client.tally.fail(`${step}: altered`)
      throw new Failed(step, 'altered')
    }
  }
  notes.at('handover')
  const { body } = await tried(client, () =>
    patiently(client, 'handover', { method: 'GET', path: script.handover }),
  )
  const handover = readHandover(body)
  if (handover?.session !== script.session) throw new Failed('handover', 'not a handover of this session')
  notes.handedOver(script.session)
  return handover
}

/** As the script of stage 1: six tries over a minute, and none where the server says that this session is over. */
async function tried<T>(client: Client, work: () => Promise<T>): Promise<T> {
  const waits = new Backoff(scriptWaits.first, scriptWaits.most, client.behaviour.hurry)
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Failed) || error.status === 403 || waits.exhausted) throw error
      client.tally.retry()
      await wait(waits.next(error.retryAfterSeconds), client.signal)
    }
  }
}

/** HEAD, then GET, whole or in ranges: both of iPXE and of UEFI's own HTTP boot. What is cut begins anew: firmware keeps no part. */
async function download(
  client: Client,
  step: 'ipxe-kernel' | 'ipxe-initramfs',
  path: string,
): Promise<string | undefined> {
  const { pieces, verify } = client.behaviour
  const head = await askAsFirmware(client, 'ipxe-head', { method: 'HEAD', path })
  const size = Number(head.headers['content-length'])
  const received = new Received(client.tally, verify)
  const length = Math.ceil(size / pieces)
  for (let from = 0; from < size; from += length) {
    const range = pieces === 1 ? {} : { Range: `bytes=${from}-${Math.min(size, from + length) - 1}` }
    await askAsFirmware(client, step, { method: 'GET', path, headers: range }, received.take)
  }
  if (received.bytes !== size) throw new Failed(step, 'another size than HEAD said')
  return received.digest()
}

function readHandover(body: Buffer): Handover | undefined {
  try {
    const { session, base, tokens } = JSON.parse(body.toString()) as {
      session: string
      base: string
      tokens: { stage2: string; report: string }
    }
    return { session, base: new URL(base).pathname, stage2: tokens.stage2, report: tokens.report }
  } catch {
    return undefined
  }
}
