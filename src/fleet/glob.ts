import { quote } from '../domain/node.ts'
import { PawlError } from '../errors.ts'

/**
 * Reads a pattern of names: `*` stands for any characters, `?` for one, dots are like any other; throws `invalid`.
 * Matched by hand in linear steps: a regular expression of many `*` could keep the server busy for minutes.
 */
export function parseGlob(pattern: string, what = 'node names'): (name: string) => boolean {
  if (!/^[a-z0-9._*?-]{1,253}$/.test(pattern)) {
    throw new PawlError('invalid', `${quote(pattern)} is not a pattern of ${what}`, {
      hint: 'use letters, digits, ".", "_", "-", "*" for any characters and "?" for one',
    })
  }
  return (name) => matches(pattern, name)
}

/** Greedy with one step back: behind the last `*` seen, try the match one character later. */
function matches(pattern: string, name: string): boolean {
  let p = 0
  let n = 0
  let star = -1
  let resume = 0
  while (n < name.length) {
    if (pattern[p] === '*') {
      star = p
      resume = n
      p += 1
    } else if (pattern[p] === '?' || pattern[p] === name[n]) {
      p += 1
      n += 1
    } else if (star >= 0) {
      resume += 1
      n = resume
      p = star + 1
    } else {
      return false
    }
  }
  return /^\**$/.test(pattern.slice(p))
}
