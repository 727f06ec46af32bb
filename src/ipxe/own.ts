import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { PawlError } from '../errors.ts'
import { createFile, findPublicFile } from '../pki/key-file.ts'
import { type Examined, examineIpxe } from './examine.ts'
import {
  addIpxe,
  type IpxeBinary,
  ipxeFolder,
  ipxeNamePattern,
  listIpxe,
  readBounded,
  readIpxe,
} from './folder.ts'
import { fingerprintOf, trustOf, trustRoot } from './trust.ts'

/** The fingerprints of the roots that this data folder's server leads to: that of its CA, and of the next where one is made. */
export function ownFingerprints(dataDir: string): string[] {
  const files = [join(dataDir, 'ca.crt'), join(dataDir, 'pki', 'next', 'ca.crt')]
  return files.filter((file, at) => at === 0 || existsSync(file)).flatMap(rootsIn)
}

/** The fingerprints of all certificates in a PEM file; throws `certificate-invalid` where it holds none. */
export function rootsIn(file: string): string[] {
  const text = findPublicFile(file)
  if (text === undefined) throw new PawlError('not-found', `${file} is not there`)
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  try {
    if (blocks.length > 0) return blocks.map(fingerprintOf)
  } catch (cause) {
    throw new PawlError('certificate-invalid', `${file} holds what is no certificate`, { cause })
  }
  throw new PawlError('certificate-invalid', `${file} holds no certificate (PEM)`)
}

/** A build of the operator's own, and what it is to be called. */
export interface OwnBuild {
  readonly dataDir: string
  readonly file: string
  readonly name?: string | undefined
  readonly now: Date
}

/** Examines a file and takes it into the data folder. Throws `invalid` for what is no iPXE or has a name it cannot have. */
export async function addOwnIpxe({ dataDir, file, name, now }: OwnBuild): Promise<IpxeBinary> {
  const as = name ?? basename(file)
  const bytes = await readBounded(file)
  const examined = examineIpxe(bytes, file)
  checkName(as, examined)
  const trust = trustOf(bytes, examined, ownFingerprints(dataDir))
  return addIpxe(
    dataDir,
    { ...aboutOf(examined), name: as, trust, source: sourceOf(file), addedAt: now.toISOString() },
    bytes,
  )
}

function checkName(name: string, { platform }: Examined): void {
  if (!new RegExp(ipxeNamePattern).test(name)) {
    throw new PawlError('invalid', `${JSON.stringify(name)} is not a name that iPXE is served by`, {
      hint: 'letters, digits, "-", "_" and ".", ending in .efi, .kpxe, .kkpxe, .pxe, .0 or .lkrn: give one with --name',
    })
  }
  if (name.endsWith('.efi') === (platform === 'efi')) return
  const wants =
    platform === 'efi'
      ? 'is an EFI program: its name ends in .efi'
      : 'is a BIOS program, and .efi is for EFI ones'
  throw new PawlError('invalid', `${name} ${wants}`, { hint: 'give another name with --name' })
}

/** A copy to make. */
export interface TrustingRequest {
  readonly dataDir: string
  /** A binary of the folder, or a file. */
  readonly what: string
  /** The root's file; else our own. */
  readonly root?: string | undefined
  readonly out?: string | undefined
  readonly breakSignature?: boolean
  readonly now: Date
}

/** What was made of it. */
export interface TrustingMade {
  readonly from: string
  /** The root that it trusts: the SHA-256 of the certificate. */
  readonly fingerprint: string
  /** It trusted that root before: nothing was written. */
  readonly already: boolean
  readonly path: string
  /** Whether it is in the data folder, and served. */
  readonly added: boolean
  readonly brokeSignature: boolean
}

/** Writes a copy of a binary that trusts one root: to a new file, or into the data folder beside the one it is made of. */
export async function writeTrusting(request: TrustingRequest): Promise<TrustingMade> {
  const { dataDir, what, out, breakSignature = false, now } = request
  const from = await findBinary(dataDir, what)
  const [fingerprint = '', ...more] =
    request.root === undefined ? ownFingerprints(dataDir) : rootsIn(request.root)
  if (request.root !== undefined && more.length > 0)
    throw new PawlError('usage', `${request.root} holds ${more.length + 1} certificates: name the root alone`)
  const { bytes, already, brokeSignature } = trustRoot(from.bytes, what, fingerprint, { breakSignature })
  const made = { from: what, fingerprint, already, brokeSignature }
  if (already) return { ...made, path: from.path, added: false }
  if (out !== undefined) {
    if (!createFile(out, bytes, 0o644)) throw there(out)
    return { ...made, path: out, added: false }
  }
  if (from.entry === undefined)
    throw new PawlError('usage', `${what} is not in the data folder: where its copy goes must be said`, {
      hint: 'give --out FILE',
    })
  const name = from.entry.name.replace(/(-trusting)?\.efi$/, '-trusting.efi')
  const { path: _path, size: _size, sha256: _sha256, ...entry } = from.entry
  const about = {
    ...entry,
    name,
    trust: { kind: 'root', fingerprint } as const,
    source: `${entry.name}: ${entry.source}`.slice(0, 300),
  }
  const added = addIpxe(dataDir, { ...about, addedAt: now.toISOString() }, bytes)
  return { ...made, path: added.path, added: true }
}

/** A binary by its name in the folder, else a file. */
export async function findBinary(
  dataDir: string,
  what: string,
): Promise<{ readonly bytes: Buffer; readonly path: string; readonly entry?: IpxeBinary }> {
  const { binaries, faults } = await listIpxe(dataDir)
  const entry = binaries.find(({ name }) => name === what)
  if (entry !== undefined) return { bytes: await readIpxe(entry), path: entry.path, entry }
  const fault = faults.find(({ name }) => name === what)
  if (fault !== undefined) throw new PawlError('digest-mismatch', fault.message)
  if (!existsSync(what)) {
    throw new PawlError(
      'not-found',
      `there is no iPXE "${what}" in ${ipxeFolder(dataDir)}, and no such file`,
      {
        hint:
          binaries.length === 0
            ? "take Debian's with pawl ipxe fetch"
            : `there are: ${binaries.map(({ name }) => name).join(', ')}`,
      },
    )
  }
  return { bytes: await readBounded(what), path: what }
}

function aboutOf({ platform, arch, version, features }: Examined) {
  return { platform, arch, version, features: features && [...features] }
}

/** The name only: whole paths tell more of the operator's machine than anybody needs. */
function sourceOf(file: string): string {
  return `file ${basename(file)}`.slice(0, 300)
}

function there(file: string): PawlError {
  return new PawlError('exists', `${file} exists already`, {
    hint: 'name a new file, or remove this one first',
  })
}
