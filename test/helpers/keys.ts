import { generateKeyPairSync } from 'node:crypto'
import { generateKey, makeCertificate } from '../../src/pki/x509.ts'

/** A new key of a curve, PEM (PKCS#8). */
export function pemOfCurve(namedCurve: string): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** A certificate that signs itself, with its key: what a client shows. */
export async function clientPair(now = new Date()): Promise<{ certificate: string; key: string }> {
  const key = await generateKey()
  const certificate = await makeCertificate({
    kind: 'client-root',
    commonName: 'client',
    names: [],
    key,
    now,
  })
  return { certificate, key }
}
