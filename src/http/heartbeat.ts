import { randomBytes } from 'node:crypto'
import type { Heartbeat, ProcessIdentity, ServerClaim } from '../domain/load.ts'
import type { Gate } from './gate.ts'

/** What a process says of itself. */
export interface Heart {
  /** Says it now. Resolves when it is written; what it says of a time is not lost where that fails. */
  beat(): Promise<void>
  /** Says that this is the end. */
  end(): Promise<void>
  readonly identity: ProcessIdentity
}

/** How often. */
export const heartbeatMilliseconds = 3000

/**
 * A heart that says what the gate of this process does, and of a server what it `claims`. `take` writes it, and answers the
 * sites of nodes.
 */
export function openHeart(
  gate: Gate,
  process: Omit<ProcessIdentity, 'id'>,
  take: (beat: Heartbeat) => Promise<Readonly<Record<string, string>>>,
  claim?: () => Promise<ServerClaim>,
): Heart {
  const identity = { id: randomBytes(9).toString('base64url'), ...process }
  let untold: Heartbeat['spells'] = []
  let beating: Promise<void> | undefined
  let ended = false

  async function say(): Promise<void> {
    untold = [...untold, ...gate.told.takeSpells()].slice(-20)
    const spells = untold
    const claimed = claim === undefined ? {} : { server: await claim() }
    const beat = { process: identity, load: gate.load(), ...claimed, spells, nodes: gate.sites.takeNodes() }
    gate.sites.learn(await take(ended ? { ...beat, ends: true } : beat))
    untold = untold.slice(spells.length)
  }

  return {
    identity,
    beat() {
      // One at a time: a database that is away must not be asked by more and more of them.
      beating ??= say().finally(() => {
        beating = undefined
      })
      return beating
    },
    async end() {
      await beating?.catch(() => {})
      ended = true
      await say()
    },
  }
}
