import { type ChainEnds, type ChainedEvent, type ChainFault, hashEvent } from './event.ts'

/** Walks one chain as it is read. `accept` each event in order of `seq`, then `finish`; both return the first fault. */
export class ChainVerifier {
  readonly #ends: ChainEnds
  #seq: number
  #hash: string

  constructor(ends: ChainEnds) {
    this.#ends = ends
    this.#seq = ends.baseSeq
    this.#hash = ends.baseHash
  }

  accept(event: ChainedEvent): ChainFault | undefined {
    const seq = this.#seq + 1
    if (event.seq > seq) return this.#fault(seq, 'missing')
    if (event.seq < seq) return this.#fault(event.seq, 'out of order')
    if (hashEvent(event) !== event.hash) return this.#fault(seq, 'edited')
    if (event.prevHash !== this.#hash) return this.#fault(seq, 'out of order')
    this.#seq = seq
    this.#hash = event.hash
    return undefined
  }

  finish(): ChainFault | undefined {
    if (this.#seq === this.#ends.headSeq && this.#hash === this.#ends.headHash) return undefined
    return this.#fault(this.#seq + 1, 'cut off')
  }

  #fault(seq: number, fault: ChainFault['fault']): ChainFault {
    return { chain: this.#ends.name, seq, fault }
  }
}
