/**
 * The uploads that this process receives now. Of two requests for one upload the later is turned away, as long as the
 * earlier moves: two jobs with one token would only throw each other out in turn. One that stalls gives way: its sender lost
 * the connection, which the server may see an hour later, and is back to go on.
 */
import { dirname } from 'node:path'
import { Readable } from 'node:stream'
import type { Digest } from '../domain/digest.ts'
import { PawlError } from '../errors.ts'

/** An upload under way. */
export interface Upload {
  /** Says how large it becomes, where that is known, and how much of it is there. */
  expect(size: number | undefined, have: number): void
  /** Says how much of it is there now. */
  arrived(have: number): void
  /** The error for one whose bytes stopped coming. */
  brokeOff(digest: Digest): (cause: unknown) => PawlError
  /** Ends the claim. */
  over(): void
}

/** Without a byte for this long an upload gives way to a new request of its sender. */
const stalledMilliseconds = 10_000

interface Claim {
  lastByteAt: number
  /** Bytes that are announced and not there yet. */
  missing: number
  readonly giveWay: () => void
  readonly ended: Promise<void>
}

/** By path: two stores opened on one folder of this process know of each other's. */
const claims = new Map<string, Claim>()

/** Takes an upload's file for one request; throws `conflict` while another one moves. */
export async function claimUpload(
  path: string,
  bytes: AsyncIterable<Uint8Array>,
  now: () => number,
): Promise<Upload> {
  const earlier = claims.get(path)
  if (earlier !== undefined && now() - earlier.lastByteAt >= stalledMilliseconds) {
    earlier.giveWay()
    await earlier.ended
  }
  if (claims.has(path)) {
    throw new PawlError('conflict', 'another request with this token is sending this artifact now', {
      hint: 'wait for it to end, or publish with a token of its own',
    })
  }
  let gaveWay = false
  const { promise: ended, resolve: end } = Promise.withResolvers<void>()
  const claim: Claim = {
    lastByteAt: now(),
    missing: 0,
    ended,
    giveWay: () => {
      gaveWay = true
      if (bytes instanceof Readable) bytes.destroy(new Error('a later request goes on'))
    },
  }
  claims.set(path, claim)
  let size: number | undefined
  const arrived = (have: number): void => {
    claim.lastByteAt = now()
    claim.missing = Math.max(0, (size ?? have) - have)
  }
  return {
    expect(whole, have) {
      size = whole
      arrived(have)
    },
    arrived,
    brokeOff: (digest) => (cause) =>
      gaveWay
        ? new PawlError('conflict', `a later request goes on with artifact ${digest}`, { cause })
        : new PawlError('invalid', `the upload of artifact ${digest} broke off`, { cause }),
    over() {
      claims.delete(path)
      end()
    },
  }
}

/** Whether this process receives into this file now. */
export function isUnderWay(path: string): boolean {
  return claims.has(path)
}

/** Bytes that are announced for uploads in this folder and not there yet, one file apart. */
export function missingBytes(folder: string, except: string): number {
  let sum = 0
  for (const [path, { missing }] of claims) if (path !== except && dirname(path) === folder) sum += missing
  return sum
}
