import type { Socket } from 'node:net'
import { siteUnit } from '../../domain/address.ts'
import { openFairQueue, type Place } from '../fair-queue.ts'

/** Hands connections with a whole hello to TLS, a few in each turn of the event loop. */
export interface Turns {
  /** Has its turn at once where nobody waits and there is room in this turn, else when it comes. */
  push(socket: Socket, site: string, begin: () => void): void
  leave(socket: Socket): void
  readonly waiting: () => number
  /** The newest of the site of which most wait. */
  newestOfLargest(): Socket | undefined
  close(): void
}

/**
 * A handshake costs the server half a millisecond, at its hello. With thousands at once all would be begun, and none be over within
 * its time; so in each turn of the loop a few are begun and all that are under way go on. Sites take turns.
 */
const handshakesInTurn = 8

interface Waiter {
  readonly socket: Socket
  readonly begin: () => void
}

/** Nobody waits yet. */
export function openTurns(): Turns {
  const queue = openFairQueue<Waiter>()
  const places = new Map<Socket, Place<Waiter>>()
  let begun = 0
  let turn: NodeJS.Immediate | undefined

  function nextTurn(): void {
    turn = undefined
    begun = 0
    while (begun < handshakesInTurn) {
      const waiter = queue.take()
      if (waiter === undefined) break
      places.delete(waiter.socket)
      begun += 1
      waiter.begin()
    }
    if (begun > 0) turn = setImmediate(nextTurn)
  }

  return {
    push(socket, site, begin) {
      turn ??= setImmediate(nextTurn)
      if (begun < handshakesInTurn && queue.length() === 0) {
        begun += 1
        begin()
      } else places.set(socket, queue.push(siteUnit(site), { socket, begin }))
    },
    leave(socket) {
      const place = places.get(socket)
      if (place !== undefined) queue.leave(place)
      places.delete(socket)
    },
    waiting: () => queue.length(),
    newestOfLargest: () => queue.largest()?.newest.item.socket,
    close: () => clearImmediate(turn),
  }
}
