import { generateKeyPairSync } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parsePublisherName } from '../../src/domain/publisher.ts'
import type { CodeSigningIssuer } from '../../src/fleet/publishers.ts'
import { type Authority, createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { openSigningKey, type SigningKey } from '../../src/pki/code-signing.ts'
import { keyOfRequest, makeCertificate } from '../../src/pki/x509.ts'
import { worldBegins } from './world.ts'

/** A private key and its certificates, PEM. */
export interface KeyPair {
  readonly key: string
  readonly certificates: string
}

/** Makes an RSA key, PEM, PKCS#8. */
export function rsaKey(modulusLength = 2048, publicExponent = 65_537): string {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength, publicExponent })
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** A key and a code-signing certificate of its own, as a builder has who uses no CA. Each call makes another. */
export async function newSigner(name = 'builder', now = worldBegins): Promise<KeyPair> {
  const key = rsaKey()
  const commonName = `Test ${parsePublisherName(name)}`
  return {
    key,
    certificates: await makeCertificate({ kind: 'code-signing', commonName, names: [], key, now }),
  }
}

let publisher: Promise<KeyPair> | undefined

/** The publisher that tests have when it does not matter which: one key for all suites of a process, never stored. */
export function testPublisher(): Promise<KeyPair> {
  publisher ??= newSigner()
  return publisher
}

/** The key of a publisher, ready to sign. */
export function signingKeyOf({ key, certificates }: KeyPair, now = worldBegins): SigningKey {
  return openSigningKey({ key, certificates }, now)
}

let authority: Promise<Authority> | undefined

/** What makes code-signing certificates in tests: a CA of the process, made when it is first asked. */
export const testIssuer: CodeSigningIssuer = async ({ publisher, request, now }) => {
  authority ??= makeAuthority()
  return (await authority).issueCodeSigning({ publisher, key: await keyOfRequest(request), now })
}

async function makeAuthority(): Promise<Authority> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-signing-ca-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'pki'))
  await createAuthority(folder, worldBegins)
  return openAuthority(folder)
}
