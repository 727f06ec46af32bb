import type { Option } from './packet.ts'

/** The largest values that are granted; more is clamped to them, as RFC 2348 and 7440 let a server do. */
export interface OptionLimits {
  readonly maxBlockSize: number
  readonly maxWindowSize: number
}

/** What a transfer goes by. */
export interface Terms {
  readonly blockSize: number
  readonly windowSize: number
  /** What the client asked to wait before sending again; undefined where it did not. */
  readonly timeoutSeconds: number | undefined
  /** What the OACK says, in the order and case of the request; empty where none is sent. */
  readonly granted: readonly Option[]
}

/** Why a request's options end it: error 8 of RFC 2347, with words. */
export interface Unacceptable {
  readonly refused: string
}

/**
 * What a read request's options become. Unknown ones are left out of the OACK, and so is what RFC 2349 lets a server not
 * take (a timeout out of range). A value that breaks the option's own RFC is refused: the client would go on by another
 * idea of the transfer than ours.
 */
export function negotiate(
  options: readonly Option[],
  fileBytes: number,
  limits: OptionLimits,
): Terms | Unacceptable {
  const granted: Option[] = []
  const seen = new Set<string>()
  let blockSize = 512
  let windowSize = 1
  let timeoutSeconds: number | undefined
  for (const [name, value] of options) {
    const option = name.toLowerCase()
    if (seen.has(option)) return { refused: `option ${option.slice(0, 32)} is given twice (RFC 2347)` }
    seen.add(option)
    const number = wholeNumber(value)
    if (option === 'blksize') {
      if (number === undefined) return { refused: 'block size is not a number (RFC 2348)' }
      if (number < 8) return { refused: `block size ${number} is below 8 (RFC 2348)` }
      blockSize = Math.min(number, limits.maxBlockSize)
      granted.push([name, String(blockSize)])
    } else if (option === 'windowsize') {
      if (number === undefined) return { refused: 'window size is not a number (RFC 7440)' }
      if (number < 1) return { refused: 'window size 0 is below 1 (RFC 7440)' }
      windowSize = Math.min(number, limits.maxWindowSize)
      granted.push([name, String(windowSize)])
    } else if (option === 'timeout' && number !== undefined && number >= 1 && number <= 255) {
      timeoutSeconds = number
      granted.push([name, String(number)])
    } else if (option === 'tsize' && fileBytes > 0) {
      // curl refuses an OACK with tsize 0, and without it takes an empty file as it is.
      granted.push([name, String(fileBytes)])
    }
  }
  return { blockSize, windowSize, timeoutSeconds, granted }
}

/** Decimal digits alone. What is longer than any value can be is as good as the largest. */
function wholeNumber(text: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined
  return Math.min(Number(text), Number.MAX_SAFE_INTEGER)
}
