import { createPrivateKey, X509Certificate } from 'node:crypto'
import { PawlError } from '../errors.ts'
import type { NodeCertificateView } from './answers.ts'
import type { Api } from './api.ts'
import type { Context } from './context.ts'
import { wholeList } from './pages.ts'
import { nodePath } from './values.ts'

/**
 * Key and client certificate for a boot medium, from the file that `pawl node certificate issue --out` wrote; undefined where no
 * file is named. What the server would refuse is found now: a certificate of another node, one that was revoked or has expired.
 */
export async function certificateFor(
  { io }: Context,
  api: Api,
  name: string,
  file: string | undefined,
): Promise<string | undefined> {
  if (file === undefined) return undefined
  const { readSecretFile } = await import('../pki/key-file.ts')
  const text = readSecretFile(file, `make one with pawl node certificate issue ${name} --out ${file}`)
  const fingerprint = fingerprintOf(file, text)
  const { items } = await wholeList<NodeCertificateView>(api, `${nodePath(name)}/certificates`)
  const known = items.find((one) => one.fingerprint === fingerprint)
  const fault =
    known === undefined
      ? `is not one of node "${name}"`
      : known.revokedAt !== null
        ? 'was revoked'
        : Date.parse(known.expiresAt) <= io.now().getTime()
          ? 'has expired'
          : undefined
  if (fault === undefined) return text
  throw new PawlError('invalid', `the certificate in ${file} ${fault}`, {
    hint: `those that are good: pawl node certificate list ${name}`,
  })
}

function fingerprintOf(file: string, text: string): string {
  try {
    const certificate = new X509Certificate(text.slice(text.indexOf('-----BEGIN CERTIFICATE-----')))
    if (certificate.checkPrivateKey(createPrivateKey(text)))
      return certificate.fingerprint256.replaceAll(':', '').toLowerCase()
  } catch {}
  throw new PawlError('invalid', `${file} does not hold a key and its certificate (PEM)`, {
    hint: 'pawl node certificate issue NAME --out FILE writes both into one file',
  })
}
