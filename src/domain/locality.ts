const tickMilliseconds = 16
const tickBytes = 3

/**
 * Random bytes that name a row, with the time in their first three: rows that are written together are then beside each other in the
 * index of their names, and boots that share a commit write the same pages (54 pages of SQLite a boot, 68 with names by chance alone).
 * The time begins anew every three days, which is no matter: the other bytes tell names apart, 48 bits of a name of nine bytes.
 * Only for names. Whoever knows the time knows these bytes.
 */
export function namedInOrder(random: Uint8Array, now: Date): Uint8Array {
  const bytes = Uint8Array.from(random)
  const tick = Math.floor(now.getTime() / tickMilliseconds)
  for (let at = 0; at < tickBytes; at += 1) bytes[at] = Math.floor(tick / 256 ** (tickBytes - 1 - at)) & 255
  return bytes
}
