import { randomFillSync } from 'node:crypto'

/** How much is asked of the operating system's generator at a time: some hundred tokens' worth. */
const poolBytes = 4096

/**
 * Gives random bytes as `crypto.randomBytes` does, by the same cryptographic generator, asked for a few kilobytes at a time: a call
 * for each token costs more than the bytes. A byte is given once: what has been given is overwritten in the pool before anybody
 * has it, so a look at this memory tells nothing of tokens that are out.
 */
export function openRandomPool(
  fill: (bytes: Uint8Array) => void = randomFillSync,
): (size: number) => Uint8Array {
  const pool = new Uint8Array(poolBytes)
  let at = poolBytes
  return (size) => {
    if (size > poolBytes / 8) {
      const own = new Uint8Array(size)
      fill(own)
      return own
    }
    if (at + size > poolBytes) {
      fill(pool)
      at = 0
    }
    const given = pool.slice(at, at + size)
    pool.fill(0, at, at + size)
    at += size
    return given
  }
}
