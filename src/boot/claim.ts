import { createHash } from 'node:crypto'
import { canonicalJson } from '../domain/canonical-json.ts'
import { addSeconds } from '../domain/clock.ts'
import type { Facts } from '../domain/facts.ts'
import { hashesEqual, hashSecret, type SecretHash } from '../domain/token.ts'
import type { NodeClaimRow } from '../storage/machine-tables.ts'

/**
 * A claim is a secret that only the script of one asking machine was given, over HTTPS; its iPXE keeps it in memory and sends
 * it when it asks again. An operator who approves the code on that machine's console so knows whose request is served next:
 * until its first boot has come to stage 2, or the claim is too old, it stands in for the enrolment secret that the media
 * does not carry. It is good only from the same address, with the same facts.
 */

/** The facts that make a machine; the rest (addresses, versions) may differ from boot to boot. */
export const identifying = ['uuid', 'serial', 'mac', 'manufacturer', 'product'] as const

/** SHA-256 over what a machine tells and from where: whoever tells the same from the same address is the same here. */
export function machineOf(facts: Facts, source: string): string {
  const bound = [source, ...identifying.map((name) => facts[name] ?? null)]
  return createHash('sha256').update(canonicalJson(bound)).digest('hex')
}

/** What a request says of its claim: nothing (its site script knows none), none yet, or one. */
export type ToldClaim = undefined | 'none' | SecretHash

/** Reads the field `claim`. What is no claim is none yet: a machine that tells nonsense gets a code of its own. */
export function toldClaim(fields: Readonly<Record<string, unknown>>): ToldClaim {
  const { claim } = fields
  if (claim === undefined) return undefined
  return typeof claim === 'string' && /^[0-9a-f]{48}$/.test(claim) ? hashSecret(claim) : 'none'
}

/** A new claim: 192 bits in hex, which every iPXE takes as a word. */
export function newClaim(randomBytes: (size: number) => Uint8Array): { text: string; hash: SecretHash } {
  const text = Buffer.from(randomBytes(24)).toString('hex')
  return { text, hash: hashSecret(text) }
}

/** The claim that an approved machine is left with. */
export function claimOf(
  node: string,
  machine: { readonly claim_hash: string | null; readonly machine: string | null },
  now: Date,
  lifetimeSeconds: number,
): NodeClaimRow | undefined {
  if (machine.claim_hash === null || machine.machine === null) return undefined
  const expiresAt = addSeconds(now, lifetimeSeconds).toISOString()
  return { node, claim_hash: machine.claim_hash, machine: machine.machine, expires_at: expiresAt }
}

/** What a request presents: its claim, and who asks. */
export interface PresentedClaim {
  readonly hash: SecretHash
  readonly machine: string
  readonly now: Date
}

/** Whether a claim is the node's, in time, and told by the machine that it was given to. */
export function provesClaim(row: NodeClaimRow | undefined, told: PresentedClaim): boolean {
  return (
    row !== undefined &&
    row.machine === told.machine &&
    row.expires_at > told.now.toISOString() &&
    hashesEqual(row.claim_hash as SecretHash, told.hash)
  )
}
