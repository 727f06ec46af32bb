/** Byte ranges of RFC 9110 section 14. Pure. */

/** A part of a representation: from `start` up to and without `end`. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * What a `Range` field asks of `size` bytes. `whole`: there is none, it is malformed, has another unit or more than one
 * range; a server may ignore all of these (14.2), and boot clients send none of them on purpose.
 */
export type RangeAnswer = ByteRange | 'whole' | 'unsatisfiable'

/** Reads a `Range` field (14.1.2): `bytes=a-b`, `bytes=a-`, `bytes=-n`. */
export function parseRange(field: string | undefined, size: number): RangeAnswer {
  const set = /^bytes=(.*)$/i.exec(field ?? '')?.[1]
  if (set === undefined) return 'whole'
  // A list may have empty members and white space around its commas (5.6.1).
  const specs = set.split(',').map((spec) => spec.replace(/^[ \t]+|[ \t]+$/g, ''))
  const [spec, ...more] = specs.filter((each) => each !== '')
  if (spec === undefined || more.length > 0) return 'whole'
  const match = /^(\d*)-(\d*)$/.exec(spec)
  if (match === null || spec === '-') return 'whole'
  const [, first = '', last = ''] = match
  if (first === '') return lastBytes(BigInt(last), size)
  return fromTo(BigInt(first), last === '' ? undefined : BigInt(last), size)
}

/** The last `length` bytes; all of them where there are fewer. */
function lastBytes(length: bigint, size: number): RangeAnswer {
  if (length === 0n || size === 0) return 'unsatisfiable'
  return { start: length >= BigInt(size) ? 0 : size - Number(length), end: size }
}

/** Numbers of any length are compared exactly; what is kept of them is not larger than `size`. */
function fromTo(first: bigint, last: bigint | undefined, size: number): RangeAnswer {
  if (last !== undefined && last < first) return 'whole'
  if (first >= BigInt(size)) return 'unsatisfiable'
  const end = last === undefined || last >= BigInt(size) ? size : Number(last) + 1
  return { start: Number(first), end }
}
