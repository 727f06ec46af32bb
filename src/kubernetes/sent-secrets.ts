import type { Kubeconfig } from './kubeconfig.ts'

/** Shorter ones are words like `true`, and stand in any sentence. */
const shortest = 6

/**
 * What was sent and must not be quoted, in each form that an answer may give it back in: the token, and what a Secret says under
 * `data` (base64, and what that is) and `stringData`. What the object's name and annotations say too is no secret.
 */
export function sentSecrets({ token }: Pick<Kubeconfig, 'token'>, body: object | undefined): string[] {
  const { data, stringData, metadata } = (body ?? {}) as Readonly<Record<string, unknown>>
  const open = JSON.stringify(metadata ?? {})
  const said = [...textsOf(data).map(fromBase64), ...textsOf(stringData)].filter(
    (text) => !open.includes(text),
  )
  const secrets = [...(token === undefined ? [] : [token, ...token.split('.')]), ...said]
  return [...new Set([...secrets.flatMap(formsOf), ...textsOf(data)])].filter(
    (text) => text.length >= shortest,
  )
}

function textsOf(part: unknown): string[] {
  if (typeof part !== 'object' || part === null) return []
  return Object.values(part).filter((value) => typeof value === 'string')
}

function fromBase64(text: string): string {
  return Buffer.from(text, 'base64').toString('utf8')
}

/** A text as it is; in JSON, a URL, base64 of both alphabets without padding, and hexadecimal. */
function formsOf(text: string): string[] {
  const bytes = Buffer.from(text)
  return [
    text,
    JSON.stringify(text).slice(1, -1),
    encodeURIComponent(bytes.toString('utf8')),
    bytes.toString('base64').replace(/=+$/, ''),
    bytes.toString('base64url'),
    bytes.toString('hex'),
  ]
}
