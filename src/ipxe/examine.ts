/**
 * What an iPXE binary says of itself. Nothing of it is run: the headers tell the platform, and iPXE's own words (names of
 * commands and features, each kept as a string that ends with a zero byte) tell what was built in. A BIOS binary is packed
 * but for its loader, so that only its kind and, for a `.lkrn`, its version can be read.
 */
import { PawlError } from '../errors.ts'

/** What the firmware must be. */
export type IpxePlatform = 'efi' | 'bios'
/** The processor, in iPXE's words (`${buildarch}`). */
export type IpxeArch = 'x86_64' | 'i386' | 'arm64' | 'arm32' | 'riscv64' | 'loong64'

/** What matters to Pawl of what can be built in, and the words that show it (each ends with a zero byte in the binary). */
const featureWords = {
  https: ['\0HTTPS\0'],
  ipv6: ['IPv6\0'],
  vlan: ['vcreate\0'],
  params: ['\0param\0'],
  digests: ['sha256sum\0'],
  imgverify: ['imgverify\0'],
} as const

/** One of them. */
export type IpxeFeature = keyof typeof featureWords | 'ecdsa'

/** Of the public authority that iPXE trusts unless it was built otherwise: the SHA-256 of `ca.ipxe.org`'s root (DER). */
export const publicFingerprint = '9faf717b7f8ca2f93c256c79f8ac5591895d66d1ff3bee6397a70d29c65eed1a'

/** What was found in a binary. */
export interface Examined {
  readonly platform: IpxePlatform
  readonly arch: IpxeArch
  /** None where it is packed. */
  readonly version: string | null
  /** None where it is packed: then nobody can tell from outside. */
  readonly features: readonly IpxeFeature[] | null
  /** Whether somebody signed it for Secure Boot: any change breaks that. */
  readonly signed: boolean
}

/** Larger is no iPXE: the largest, with all drivers, has about one MiB; room for an embedded script. */
export const maxIpxeBytes = 16 * 2 ** 20

/** Reads a binary's headers and words; throws `invalid` for what no firmware would run as iPXE. */
export function examineIpxe(bytes: Buffer, name: string): Examined {
  if (bytes.length > maxIpxeBytes)
    throw refused(name, `is ${bytes.length} bytes, more than iPXE can have (${maxIpxeBytes})`)
  const found = examineEfi(bytes, name) ?? examineLinuxKernel(bytes) ?? examineNetworkProgram(bytes)
  if (found !== undefined) return found
  throw refused(
    name,
    'is no iPXE: neither an EFI program nor a BIOS one',
    'name an .efi, .kpxe, .pxe or .lkrn file of an iPXE build; disk images of iPXE are not taken',
  )
}

/** PE machine numbers (Microsoft PE/COFF, "Machine Types"). */
const machines: Readonly<Record<number, IpxeArch>> = {
  332: 'i386',
  450: 'arm32',
  452: 'arm32',
  20580: 'riscv64',
  25188: 'loong64',
  34404: 'x86_64',
  43620: 'arm64',
}
const efiApplication = 10
const certificateTable = 4

function examineEfi(bytes: Buffer, name: string): Examined | undefined {
  if (bytes.length < 0x40 || bytes.toString('latin1', 0, 2) !== 'MZ') return undefined
  const header = bytes.readUInt32LE(0x3c)
  // All that is read below: the file header (24 bytes) and the optional one up to the certificate table.
  if (header + 24 + 112 + 40 > bytes.length || bytes.toString('latin1', header, header + 4) !== 'PE\0\0')
    throw refused(name, 'begins like an EFI program, but has no PE header')
  const arch = machines[bytes.readUInt16LE(header + 4)]
  if (arch === undefined) throw refused(name, 'is an EFI program for an unknown processor')
  const optional = header + 24
  const wide = bytes.readUInt16LE(optional) === 0x20b
  if (bytes.readUInt16LE(optional + 68) !== efiApplication)
    throw refused(name, 'is no EFI application', 'a driver (.efidrv) or ROM cannot be booted from a network')
  if (!has(bytes, 'iPXE\0')) throw refused(name, 'is an EFI application, but not iPXE')
  const tables = optional + (wide ? 108 : 92)
  const entry = tables + 4 + 8 * certificateTable
  const signed = bytes.readUInt32LE(tables) > certificateTable && bytes.readUInt32LE(entry + 4) > 0
  return { platform: 'efi', arch, version: versionOf(bytes), features: featuresOf(bytes), signed }
}

function versionOf(bytes: Buffer): string | null {
  const text = bytes.toString('latin1')
  const found =
    /iPXE\0+(\d+\.\d+\.\d+[!-~]{0,80})\0/.exec(text) ??
    /\nipxe,1,iPXE,[^,]*,(\d+\.\d+\.\d+[!-~]{0,80}?),/.exec(text)
  return found?.[1]?.slice(0, 100) ?? null
}

/** id-ecPublicKey (RFC 5480): its presence means certificates with ECDSA keys are understood. */
const ecPublicKey = Buffer.from('2a8648ce3d0201', 'hex')

function featuresOf(bytes: Buffer): IpxeFeature[] {
  const features = Object.keys(featureWords) as (keyof typeof featureWords)[] // the keys of a literal
  const found: IpxeFeature[] = features.filter((feature) =>
    featureWords[feature].every((word) => has(bytes, word)),
  )
  return bytes.includes(ecPublicKey) ? [...found, 'ecdsa'] : found
}

/** What every BIOS build says when it cannot unpack itself. */
const packedWords = 'Installation failed - cannot continue'

/** A `.lkrn`: iPXE in the form of a Linux kernel (Linux, Documentation/arch/x86/boot.rst), for isolinux, syslinux and GRUB. */
function examineLinuxKernel(bytes: Buffer): Examined | undefined {
  if (bytes.length < 0x260 || bytes.toString('latin1', 0x202, 0x206) !== 'HdrS') return undefined
  if (bytes.readUInt16LE(0x1fe) !== 0xaa55 || !has(bytes, packedWords)) return undefined
  const at = bytes.readUInt16LE(0x20e) + 0x200
  const version = /^\d+\.\d+\.\d+[!-~]{0,80}/.exec(bytes.toString('latin1', at, at + 100))?.[0]
  return { ...packed, version: version ?? null }
}

/** A network bootstrap program: begins with a far jump to 07C0:xxxx and talks to the NIC's PXE. */
function examineNetworkProgram(bytes: Buffer): Examined | undefined {
  if (bytes.length < 0x200 || bytes[0] !== 0xea || bytes.readUInt16LE(3) !== 0x07c0) return undefined
  if (!has(bytes, 'PXE->EB') || !has(bytes, packedWords)) return undefined
  return { ...packed, version: null }
}

const packed = { platform: 'bios', arch: 'i386', features: null, signed: false } as const

function has(bytes: Buffer, word: string): boolean {
  return bytes.includes(word, 0, 'latin1')
}

function refused(name: string, fault: string, hint?: string): PawlError {
  return new PawlError('invalid', `${name} ${fault}`, hint === undefined ? {} : { hint })
}
