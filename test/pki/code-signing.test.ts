import { execFileSync, spawnSync } from 'node:child_process'
import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { detachedCms } from '../../src/domain/cms.ts'
import { digestOf } from '../../src/domain/digest.ts'
import { parseManifest } from '../../src/domain/image.ts'
import { checkMaySign, parseChain, parsePublisherName, writeChain } from '../../src/domain/publisher.ts'
import {
  checkCms,
  checkSignature,
  cmsOf,
  type ImageSignature,
  parseSignature,
  signedParts,
} from '../../src/domain/signature.ts'
import { isPawlError } from '../../src/errors.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { openSigningKey, signImage } from '../../src/pki/code-signing.ts'
import { generateKey, keyOfRequest, makeCertificate, makeSigningRequest } from '../../src/pki/x509.ts'
import { type KeyPair, newSigner, rsaKey, signingKeyOf } from '../helpers/signing.ts'
import { smallFile, smallKernel, smallManifest } from '../helpers/small-image.ts'
import { worldBegins } from '../helpers/world.ts'

const now = new Date() // openssl looks at the real clock

const absent = spawnSync('openssl', ['version']).status !== 0 && process.env.PAWL_REQUIRE !== 'all'
const needsOpenssl = { skip: absent && 'openssl is not installed' }

const folder = mkdtempSync(join(tmpdir(), 'pawl-code-signing-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
mkdirSync(join(folder, 'pki'))
await createAuthority(folder, now)
const authority = openAuthority(folder)

const [kernel, initramfs] = [smallKernel(), smallFile('initramfs')]
const manifest = parseManifest(smallManifest(kernel, initramfs))
const publisher = await newSigner('builder', now)
const signer = signingKeyOf(publisher, now)
const signature = signImage(signer, manifest)

function faultOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (isPawlError(error)) return `${error.code}: ${error.message}`
    throw error
  }
  return 'no error'
}

/** A publisher of Pawl's own CA. */
async function issued(key: string, name = 'ci'): Promise<KeyPair> {
  const certificates = await authority.issueCodeSigning({ publisher: parsePublisherName(name), key, now })
  return { key, certificates }
}

/** A certificate as openssl makes it for a builder. */
function openssl(key: string, extensions: string[], ...more: string[]): KeyPair {
  const args = ['req', '-x509', '-new', '-sha256', '-utf8', '-subj', '/O=Builders & Söhne/CN=build farm']
  const asked = extensions.flatMap((extension) => ['-addext', extension])
  writeFileSync(join(folder, 'builder.key'), key)
  const files = ['-key', join(folder, 'builder.key'), '-config', '/dev/null', '-days', '30']
  const certificates = execFileSync('openssl', [...args, ...files, ...asked, ...more], {
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  return { key, certificates }
}

const goodExtensions = ['basicConstraints=critical,CA:FALSE', 'extendedKeyUsage=codeSigning']

t.test('refuses a signature in which any one bit is other than it was made', async (t) => {
  const der = signer.sign(kernel.digest)
  checkCms(der, 'kernel', kernel.digest, signer.chain)
  for (let byte = 0; byte < der.length; byte += 1) {
    const flipped = Buffer.from(der)
    flipped.writeUInt8(flipped.readUInt8(byte) ^ (1 << (byte % 8)), byte)
    const fault = faultOf(() => checkCms(flipped, 'kernel', kernel.digest, signer.chain))
    if (!fault.startsWith('signature-invalid: the signature of the kernel ')) t.fail(`byte ${byte}: ${fault}`)
  }
  for (const length of [0, 1, 255, 256, der.length - 1])
    t.match(
      faultOf(() => checkCms(der.subarray(0, length), 'kernel', kernel.digest, signer.chain)),
      /^signature-invalid/,
    )
  const longer = Buffer.concat([der, Buffer.alloc(1)])
  t.match(
    faultOf(() => checkCms(longer, 'kernel', kernel.digest, signer.chain)),
    /is not the CMS/,
  )
})

t.test('whatever bytes come as a signature, they are refused and nothing breaks', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4096 }), (bytes) => {
      const fault = faultOf(() => checkCms(Buffer.from(bytes), 'kernel', kernel.digest, signer.chain))
      return (
        fault ===
        'signature-invalid: the signature of the kernel is not the CMS that goes with its certificates'
      )
    }),
    { numRuns: 200 },
  )
})

t.test('refuses a signature of another image, key, part or certificate', async (t) => {
  const stranger = signingKeyOf(await newSigner('stranger', now), now)
  const other = parseManifest(smallManifest(kernel, initramfs, { version: '2' }))
  const [{ certificates }, theirs] = [signature, signImage(stranger, manifest)]
  const value = Buffer.from(theirs.manifest, 'base64').subarray(-256)
  const forged = detachedCms(signer.chain.certificates, value).toString('base64')
  const raw = detachedCms(signer.chain.certificates, Buffer.alloc(256, 1)).toString('base64')
  const { kernel: ofKernel, initramfs: ofInitramfs } = signature.artifacts
  const cases: [what: string, signature: ImageSignature, fault: RegExp, of?: typeof manifest][] = [
    ['another manifest', signature, /manifest is over other bytes/, other],
    [
      'another key under our certificate',
      { ...signature, manifest: forged },
      /not made by the certificate's key/,
    ],
    ['a number that is no signature', { ...signature, manifest: raw }, /not made by the certificate's key/],
    ["another's signature", { ...theirs, certificates }, /manifest is not the CMS/],
    ["another's certificate", { ...signature, certificates: theirs.certificates }, /manifest is not the CMS/],
    [
      'the kernel’s in the place of the manifest’s',
      { ...signature, manifest: ofKernel },
      /manifest is over other/,
    ],
    [
      'kernel and initramfs exchanged',
      { ...signature, artifacts: { kernel: ofInitramfs, initramfs: ofKernel } },
      /kernel is over other/,
    ],
    [
      'a filesystem that the image has not',
      { ...signature, artifacts: { ...signature.artifacts, filesystem: ofKernel } },
      /filesystem is signed, but not in/,
    ],
  ]
  for (const [what, wrong, fault, of = manifest] of cases)
    t.match(
      faultOf(() => checkSignature(wrong, of, now)),
      fault,
      what,
    )
  const [k, i, f] = [kernel, initramfs, smallFile('fs')]
  const artifacts = [
    ...(smallManifest(k, i).artifacts as object[]),
    { role: 'filesystem', digest: f.digest, size: f.bytes.length, mediaType: 'a/b' },
  ]
  const withFilesystem = parseManifest(smallManifest(k, i, { artifacts }))
  const lacking = { ...signature, manifest: signImage(signer, withFilesystem).manifest }
  t.match(
    faultOf(() => checkSignature(lacking, withFilesystem, now)),
    /filesystem is not signed/,
  )
  t.equal(
    faultOf(() => checkSignature(signature, manifest, now)),
    'no error',
  )
})

t.test('refuses a certificate that may not sign', needsOpenssl, async (t) => {
  const { key } = publisher
  const ca = {
    certificate: authority.issuingCertificate,
    key: readFileSync(join(folder, 'pki/issuing.key'), 'utf8'),
  }
  const server = await authority.issue({ kind: 'boot-server', names: ['a.example'], key, now })
  const byCa = (await issued(key)).certificates
  const [leaf = '', issuing = ''] = byCa.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----\n/g) ?? []
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({
    type: 'pkcs8',
    format: 'pem',
  })
  const pss = generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).privateKey.export({
    type: 'pkcs8',
    format: 'pem',
  })
  const old = (await newSigner('old', worldBegins)).certificates
  const cases: [what: string, pem: string, fault: RegExp, at?: Date][] = [
    ['a TLS server of the same CA', server + ca.certificate, /is not for code signing/],
    ['the issuing CA', ca.certificate, /is not for code signing/],
    [
      'no purpose',
      openssl(key, ['basicConstraints=critical,CA:FALSE']).certificates,
      /is not for code signing/,
    ],
    [
      'two purposes',
      openssl(key, ['extendedKeyUsage=codeSigning,serverAuth']).certificates,
      /is not for code signing/,
    ],
    [
      'any purpose',
      openssl(key, ['extendedKeyUsage=anyExtendedKeyUsage']).certificates,
      /is not for code signing/,
    ],
    [
      'a CA',
      openssl(key, ['extendedKeyUsage=codeSigning', 'basicConstraints=critical,CA:TRUE']).certificates,
      /is a CA/,
    ],
    ['an EC key', openssl(String(ec), goodExtensions).certificates, /the key is ec, not RSA/],
    ['an RSA-PSS key', openssl(String(pss), goodExtensions).certificates, /the key is rsa-pss, not RSA/],
    ['1024 bits', openssl(rsaKey(1024), goodExtensions).certificates, /1024 bits; 2048 to 8192/],
    ['an exponent of 3', openssl(rsaKey(2048, 3), goodExtensions).certificates, /exponent is 3/],
    ['no issuer', leaf, /issuer of "CN=Pawl publisher ci" is missing/],
    [
      'the root in the place of the issuer',
      leaf + authority.rootCertificate,
      /certificate 1 .* is not issued by/,
    ],
    ['another issuer', leaf + openssl(key, goodExtensions).certificates, /certificate 1 .* is not issued by/],
    [
      'a leaf as issuer',
      openssl(key, goodExtensions).certificates.repeat(2),
      /certificate 1 .* is not issued by/,
    ],
    ['a wrong order', issuing + leaf, /certificate 1 .* is not issued by/],
    [
      'one day over',
      old,
      /is good from .* to 2027-11-21T06:00:00.000Z, not at/,
      new Date('2027-11-21T06:00:00Z'),
    ],
    ['not begun', old, /is good from 2026-11-14/, new Date('2026-11-14T05:59:59Z')],
  ]
  for (const [what, pem, fault, when = new Date()] of cases) {
    const got = faultOf(() => checkMaySign(parseChain(pem), when))
    t.match(got, fault, what)
    t.match(got, /^signature-invalid/, what)
  }
})

t.test('refuses what is no certificate, or too much of it', async (t) => {
  const block = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
  const cases: [pem: string, fault: RegExp][] = [
    ['', /there is no certificate/],
    ['-----BEGIN CERTIFICATE-----'.repeat(1000), /there is no certificate/],
    [publisher.key, /there is no certificate/],
    [block, /cannot be read/],
    [block.repeat(5), /5 certificates; 4 are the limit/],
    ['A'.repeat(32 * 1024 + 1), /32769 bytes of certificates; 32768 are the limit/],
    [publisher.certificates.replace('M', '\0'), /there is no certificate|cannot be read/],
  ]
  for (const [pem, fault] of cases)
    t.match(
      faultOf(() => parseChain(pem)),
      fault,
      pem.slice(0, 40),
    )
  for (const name of ['', 'A', '-a', 'a'.repeat(64), 'a b', 'a/b', 'ä'])
    t.match(
      faultOf(() => parsePublisherName(name)),
      /^invalid/,
      name,
    )
})

t.test('refuses a certificate whose key is damaged or of an unknown kind', async (t) => {
  const { raw } = parseChain(publisher.certificates).leaf
  const rsaEncryption = Buffer.from('300d06092a864886f70d0101010500', 'hex') // AlgorithmIdentifier, RFC 3279 §2.3.1
  const at = raw.indexOf(rsaEncryption)
  const key = at + rsaEncryption.length + 5 // behind the head of the BIT STRING
  for (const [what, damaged] of [
    ['damaged', key],
    ['unknown', at + rsaEncryption.length - 3],
  ] as const) {
    const other = Buffer.from(raw)
    other.writeUInt8(other.readUInt8(damaged) ^ 0x40, damaged)
    const base64 = other.toString('base64')
    const pem = `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`
    t.match(
      faultOf(() => checkMaySign(parseChain(pem), now)),
      /^signature-invalid: the key of .* cannot be read$/,
      what,
    )
  }
})

t.test('refuses a document that is not of its form', async (t) => {
  const { manifest: cms } = signature
  const cases: [value: unknown, fault: RegExp][] = [
    [null, /^invalid: signature /],
    [[], /^invalid: signature /],
    [{ ...signature, schema: 'pawl.signature/v2' }, /schema/],
    [{ ...signature, more: 1 }, /unknown field "more"/],
    [{ ...signature, certificates: [] }, /certificates/],
    [{ ...signature, certificates: Array(5).fill(publisher.certificates) }, /certificates/],
    [{ ...signature, certificates: ['A'.repeat(20_000)] }, /certificates/],
    [{ ...signature, manifest: `${cms}*` }, /manifest/],
    [{ ...signature, manifest: 'A'.repeat(50_000) }, /manifest/],
    [{ ...signature, artifacts: { kernel: cms } }, /artifacts/],
    [{ ...signature, artifacts: { ...signature.artifacts, other: cms } }, /unknown field "other"/],
  ]
  for (const [value, fault] of cases)
    t.match(
      faultOf(() => parseSignature(value)),
      fault,
    )
  t.same(parseSignature(JSON.parse(JSON.stringify(signature))), signature)
})

t.test('refuses a key that cannot be read or is not the certificate’s', async (t) => {
  const encrypted = createPrivateKey(publisher.key)
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' })
    .toString()
  const open = (key: string, passphrase?: string) => () =>
    openSigningKey({ key, certificates: publisher.certificates, passphrase }, now)
  t.match(faultOf(open('')), /^key-unreadable: the signing key cannot be read/)
  t.match(faultOf(open(publisher.certificates)), /^key-unreadable/)
  t.match(faultOf(open(encrypted)), /^key-unreadable/)
  t.match(faultOf(open(encrypted, 'wrong')), /^key-unreadable/)
  t.match(faultOf(open(rsaKey())), /^signature-invalid: the key does not belong to the first certificate/)
  const late = new Date(now.getTime() + 366 * 86_400_000)
  t.match(
    faultOf(() => openSigningKey(publisher, late)),
    /is good from/,
  )
  const pkcs1 = createPrivateKey(publisher.key).export({ type: 'pkcs1', format: 'pem' }).toString()
  const der = signer.sign(kernel.digest)
  for (const same of [open(encrypted, 'secret'), open(pkcs1)]) t.same(same().sign(kernel.digest), der)
})

t.test('a request for a certificate is made, read back, and refused where it is not whole', async (t) => {
  const key = await generateKey()
  const pem = await makeSigningRequest(key, 'Pawl publisher x')
  const { certificates } = await issued(await keyOfRequest(pem), 'x')
  t.equal(openSigningKey({ key, certificates }, now).chain.certificates.length, 3, 'leaf, issuer and root')
  const body = pem.replaceAll(/-----[^-]+-----|\n/g, '')
  const bytes = Buffer.from(body, 'base64')
  bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1)
  const asPem = (der: Buffer) =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`
  await t.rejects(keyOfRequest(asPem(bytes)), {
    code: 'signature-invalid',
    message: /not signed by its own key/,
  })
  for (const wrong of ['', 'x', publisher.certificates, asPem(bytes.subarray(0, 100))])
    await t.rejects(keyOfRequest(wrong), { code: 'signature-invalid' })
})

t.test('openssl accepts every signature, as iPXE does', needsOpenssl, async (t) => {
  const signers: [string, KeyPair, trust: string][] = [
    ['2048 bits, of our CA', await issued(rsaKey()), authority.rootCertificate],
    ['3072 bits, of our CA', await issued(await generateKey(3072)), authority.rootCertificate],
  ]
  for (const bits of [2048, 3072, 4096]) {
    const made = openssl(rsaKey(bits), goodExtensions)
    signers.push([`${bits} bits, self-signed`, made, made.certificates])
  }
  for (const [what, pair, trust] of signers) {
    const at = new Date() // openssl's certificates begin when it made them
    const key = openSigningKey(pair, at)
    const made = parseSignature(JSON.parse(JSON.stringify(signImage(key, manifest))))
    checkSignature(made, manifest, at)
    t.equal(writeChain(key.chain), pair.certificates, `${what}: the chain is written as it was read`)
    const bytes = {
      manifest: Buffer.from(canonicalJson(manifest)),
      kernel: kernel.bytes,
      initramfs: initramfs.bytes,
    }
    for (const { part } of signedParts(manifest)) {
      const content = bytes[part as keyof typeof bytes]
      t.match(
        verify(cmsOf(made, part), content, trust),
        /CMS Verification successful|Verification successful/,
        `${what}: ${part}`,
      )
      const other = Buffer.concat([content, Buffer.from('x')])
      t.match(verify(cmsOf(made, part), other, trust), /[Vv]erification fail/, `${what}: ${part}, changed`)
    }
  }
})

/** Runs the very command of docs/operations.md. */
function verify(der: Buffer | undefined, content: Buffer, trust: string): string {
  const file = (name: string, data: string | Uint8Array) => {
    writeFileSync(join(folder, name), data)
    return join(folder, name)
  }
  const done = spawnSync(
    'openssl',
    [
      ...['cms', '-verify', '-binary', '-inform', 'DER', '-in', file('F.sig', der ?? '')],
      ...[
        '-content',
        file('F', content),
        '-CAfile',
        file('ca.crt', trust),
        '-purpose',
        'any',
        '-out',
        '/dev/null',
      ],
    ],
    { encoding: 'utf8' },
  )
  return done.stderr
}

t.test('a publisher of our CA is no server, whatever it is called', async (t) => {
  const { leaf } = parseChain((await issued(rsaKey(), 'boot-example-com')).certificates)
  t.equal(leaf.subject, 'CN=Pawl publisher boot-example-com')
  t.equal(leaf.subjectAltName, undefined)
  t.same(leaf.keyUsage, ['1.3.6.1.5.5.7.3.3'])
  const made = await makeCertificate({
    kind: 'code-signing',
    commonName: 'x',
    names: [],
    key: publisher.key,
    now,
  })
  t.equal(parseChain(made).leaf.ca, false)
  t.equal(digestOf(parseChain(made).leaf.raw), parseChain(made).fingerprint)
})
