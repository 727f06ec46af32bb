import { generateKeyPairSync } from 'node:crypto'

/** A new key of a curve, PEM (PKCS#8). */
export function pemOfCurve(namedCurve: string): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}
