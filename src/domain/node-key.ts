/** The public key of a node, and nothing else. */
export type NodeKey =
  | { readonly kty: 'EC'; readonly crv: 'P-256'; readonly x: string; readonly y: string }
  | { readonly kty: 'OKP'; readonly crv: 'Ed25519'; readonly x: string }

/** 32 bytes in base64url as it must be: of the last character two bits are beyond them. A key that can be written twice has two thumbprints. */
const coordinate = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/

/** Reads a JSON Web Key: a private part is refused, whatever else is said of it is left out. Whether the point is on its curve is not looked at. */
export function parseNodeKey(value: unknown): NodeKey | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { kty, crv, x, y, d } = value as Record<string, unknown>
  if (d !== undefined || typeof x !== 'string' || !coordinate.test(x)) return undefined
  if (kty === 'OKP' && crv === 'Ed25519' && y === undefined && isStrong(x)) return { kty, crv, x }
  if (kty === 'EC' && crv === 'P-256' && typeof y === 'string' && coordinate.test(y))
    return { kty, crv, x, y }
  return undefined
}

/** The order of the field of Ed25519 (RFC 8032 §5.1). */
const field = 2n ** 255n - 19n

/** The y of the points whose order divides 8: under such a key anybody can sign. Not every OpenSSL refuses them. */
const smallOrder: ReadonlySet<bigint> = new Set([
  ...[0n, 1n, field - 1n],
  0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n,
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
])

/** Neither a point that anybody can sign for, nor one that is written beyond the field, which is another's second spelling. */
function isStrong(x: string): boolean {
  const bytes = Buffer.from(x, 'base64url').reverse()
  const y = BigInt(`0x${bytes.toString('hex')}`) & (2n ** 255n - 1n) // the highest bit is the sign of x
  return y < field && !smallOrder.has(y)
}
