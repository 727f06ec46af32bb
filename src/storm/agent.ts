import { randomBytes } from 'node:crypto'
import type { Handover } from './firmware.ts'
import type { Digests, Step } from './plan.ts'
import { askAsAgent, askInVain, type Client, Failed, Received } from './requests.ts'
import { Backoff, wait } from './waits.ts'
import type { WireRequest } from './wire.ts'

/** What the agents tell of what they saw. */
export interface AgentNotes {
  readonly acknowledged: (step: Step) => void
  readonly at: (step: Step) => void
}

/** The waits of images/lib/transfer.sh. */
const waits = { first: 1, most: 30 }
const retrySeconds = 1800
const damagedLimit = 3

/** An artifact as stage 2 announces it. */
interface Announced {
  readonly url: string
  readonly sha256: string
  readonly size: number
}

interface Stage2Answer {
  readonly kernel: Announced
  readonly initramfs: Announced
  readonly capability: string
  readonly handover: {
    readonly tokens: { readonly stage3: string }
    readonly filesystem: Announced & { readonly capability: string }
  }
}

/**
 * Boots on as our images do: redeems stage 2, loads the full system, starts it, redeems stage 3 and join, reports. Throws Failed
 * where an agent would report an error and reboot.
 */
export async function runAgents(
  client: Client,
  handover: Handover,
  digests: Digests['stage3'],
  notes: AgentNotes,
): Promise<void> {
  const { base } = handover
  await think(client)
  const stage2 = (await redeem(client, notes, 'stage2', base, handover.stage2)) as Stage2Answer
  for (const role of ['kernel', 'initramfs'] as const)
    await download(client, notes, role, stage2[role], stage2.capability, digests[role])
  await think(client)
  const { filesystem, tokens } = stage2.handover
  await download(client, notes, 'filesystem', filesystem, filesystem.capability, digests.filesystem)
  await think(client)
  const stage3 = (await redeem(client, notes, 'stage3', base, tokens.stage3)) as { tokens: { join: string } }
  await redeem(client, notes, 'join', base, stage3.tokens.join)
  await report(client, notes, base, handover.report)
}

/** Tells the server that this attempt failed, as an agent does before it reboots; three tries, and never an error. */
export async function reportFailure(
  client: Client,
  { base, report: token }: Handover,
  why: Failed,
): Promise<void> {
  for (let tries = 0; tries < 3; tries += 1) {
    try {
      await askAsAgent(client, 'report', reportRequest(base, token, `error: ${why.message}`, 'true'))
      return
    } catch (error) {
      if (!(error instanceof Failed)) throw error
      if (error.status === 403) return
      await wait(2 / client.behaviour.hurry, client.signal)
    }
  }
}

/** A kernel and a system take their time, and never all the same. */
function think({ behaviour, signal }: Client): Promise<void> {
  return wait(behaviour.thinkSeconds * (0.5 + Math.random()), signal)
}

async function redeem(
  client: Client,
  notes: AgentNotes,
  step: 'stage2' | 'stage3' | 'join',
  base: string,
  token: string,
): Promise<unknown> {
  notes.at(step)
  const headers = { Authorization: `Bearer ${token}`, 'Idempotency-Key': newKey() }
  const request: WireRequest = { method: 'POST', path: `${base}/${step}`, headers }
  if (chance(client.behaviour.loseAnswers)) {
    await askInVain(client, step, request)
    client.tally.retry()
  }
  const { body } = await stubbornly(client, () => askAsAgent(client, step, request))
  notes.acknowledged(step)
  return JSON.parse(body.toString())
}

async function report(client: Client, notes: AgentNotes, base: string, token: string): Promise<void> {
  notes.at('report')
  const request = reportRequest(base, token, 'success', 'false')
  await stubbornly(client, () => askAsAgent(client, 'report', request))
  notes.acknowledged('report')
}

function reportRequest(base: string, token: string, message: string, final: string): WireRequest {
  return {
    method: 'POST',
    path: `${base}/report`,
    headers: {
      Authorization: `Bearer ${token}`,
      'Idempotency-Key': newKey(),
      'Content-Type': 'application/x-www-form-urlencoded',
    },
    body: new URLSearchParams({ message, final }).toString(),
  }
}

/** What may be lost on the way is asked again, under the same key; all else is final. */
async function stubbornly<T>(client: Client, work: () => Promise<T>): Promise<T> {
  const pauses = new Backoff(waits.first, waits.most, client.behaviour.hurry)
  const begun = performance.now()
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Failed) || !mayPass(error) || isOver(begun)) throw error
      client.tally.retry()
      await wait(pauses.next(error.retryAfterSeconds), client.signal)
    }
  }
}

function isOver(begun: number): boolean {
  return performance.now() - begun > retrySeconds * 1000
}

function mayPass({ status }: Failed): boolean {
  return status === undefined || status === 408 || status === 429 || status >= 500
}

/** Goes on where it was cut, and returns only when the bytes are the announced ones. */
async function download(
  client: Client,
  notes: AgentNotes,
  step: 'kernel' | 'initramfs' | 'filesystem',
  { url, sha256, size }: Announced,
  capability: string,
  published: string,
): Promise<void> {
  notes.at(step)
  if (sha256 !== published) throw failed(client, step, 'another digest than was published')
  const path = pathOf(url)
  const headers = { Authorization: `Bearer ${capability}` }
  for (let damaged = 0; damaged < damagedLimit; damaged += 1) {
    const cutAt = chance(client.behaviour.cutDownloads) ? Math.ceil(size / 2) : Number.POSITIVE_INFINITY
    const received = new Received(client.tally, client.behaviour.verify, cutAt)
    while (received.bytes < size) {
      await stubbornly(client, () => {
        const rest: Record<string, string> = received.bytes === 0 ? {} : { Range: `bytes=${received.bytes}-` }
        const request: WireRequest = { method: 'GET', path, headers: { ...headers, ...rest } }
        return askAsAgent(client, step, request, received.take)
      })
    }
    const digest = received.digest()
    if (digest === undefined || digest === sha256) return
    client.tally.fail(`${step}: checksum mismatch`)
  }
  throw new Failed(step, `checksum mismatch in ${damagedLimit} downloads`)
}

function failed(client: Client, step: Step, kind: string): Failed {
  client.tally.fail(`${step}: ${kind}`)
  return new Failed(step, kind)
}

function pathOf(url: string): string {
  const { pathname, search } = new URL(url)
  return `${pathname}${search}`
}

function newKey(): string {
  return randomBytes(24).toString('base64url')
}

function chance(percent: number): boolean {
  return percent > 0 && Math.random() * 100 < percent
}
