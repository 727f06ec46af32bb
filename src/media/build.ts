/**
 * Boot media of one node, whole in memory: some MiB. On the FAT volume `PAWL`:
 *
 *     EFI/BOOT/BOOTX64.EFI    iPXE, trusting the server's root and nobody else (BOOTAA64.EFI on arm64)
 *     autoexec.ipxe           the node's site script; iPXE runs it by itself
 *     pawl/secret.ipxe        two lines that set the enrolment secret: all that changes when it is rotated
 *     pawl/client.pem         key and client certificate of the node, where its profile asks for one
 *     pawl/medium.txt         what this is, for whoever finds it; no secret
 *
 * The same inputs give the same bytes: times are fixed, and volume numbers follow from the content.
 */
import { createHash } from 'node:crypto'
import { PawlError } from '../errors.ts'
import type { IpxeArch } from '../ipxe/examine.ts'
import { partitionStart, usbImage } from './disk.ts'
import { fatImage, type MediaFile } from './fat.ts'
import { type BiosLoader, isoImage } from './iso.ts'

/** The forms of a medium: files for any EFI system partition, a raw disk, a CD that is a disk too. */
export const mediaFormats = ['efi', 'usb', 'iso'] as const
export type MediaFormat = (typeof mediaFormats)[number]

/** What a medium is made of. */
export interface MediaContent {
  readonly node: string
  readonly publicUrl: string
  readonly siteScript: string
  /** None: the medium proves nothing. */
  readonly secret: string | undefined
  /** Key and client certificate, PEM. */
  readonly certificate?: string | undefined
  readonly ipxe: {
    readonly bytes: Buffer
    readonly arch: IpxeArch
    readonly version: string | null
    /** SHA-256 of the root that it trusts. */
    readonly root: string
  }
}

/** ISOLINUX, and the iPXE that it starts on a BIOS. */
export interface BiosContent {
  readonly ipxe: Buffer
  readonly isolinux: Buffer
  readonly diskCode: Buffer
  readonly ldlinux: Buffer
}

/** Where firmware looks for what it boots, by processor (UEFI 2.10, 3.5.1.1). */
const loaders: Readonly<Partial<Record<IpxeArch, string>>> = {
  x86_64: 'BOOTX64.EFI',
  i386: 'BOOTIA32.EFI',
  arm64: 'BOOTAA64.EFI',
  arm32: 'BOOTARM.EFI',
  riscv64: 'BOOTRISCV64.EFI',
  loong64: 'BOOTLOONGARCH64.EFI',
}

const label = 'PAWL'

/** The name of the file with the secret: the agent that rotates it writes it. */
export const secretFileName = 'pawl/secret.ipxe'

/** The name of the file with the certificate: stage 1 has iPXE load it, or the minimal Linux reads it. */
export const certificateFileName = 'pawl/client.pem'

/** The file with the secret. BIOS loaders put it in front of the site script, so that its length is a multiple of 4. */
export function secretScript(secret: string): string {
  const text = `#!ipxe\nset pawl-secret ${secret}\n`
  return text.padEnd(Math.ceil(text.length / 4) * 4, '\n')
}

/** The files of a medium. */
export function mediaFiles(content: MediaContent): MediaFile[] {
  const { ipxe, siteScript, secret, certificate } = content
  const loader = loaders[ipxe.arch]
  if (loader === undefined)
    throw new PawlError('invalid', `no firmware boots iPXE for ${ipxe.arch} from media`)
  return [
    { path: `EFI/BOOT/${loader}`, bytes: ipxe.bytes },
    { path: 'autoexec.ipxe', bytes: Buffer.from(siteScript) },
    { path: 'pawl/medium.txt', bytes: Buffer.from(aboutMedium(content)) },
    ...(secret === undefined ? [] : [{ path: secretFileName, bytes: Buffer.from(secretScript(secret)) }]),
    ...(certificate === undefined ? [] : [{ path: certificateFileName, bytes: Buffer.from(certificate) }]),
  ]
}

function aboutMedium({ node, publicUrl, ipxe, secret, certificate }: MediaContent): string {
  const carries =
    secret === undefined
      ? 'It carries no secret.'
      : `pawl/secret.ipxe is this node's enrolment secret. Lost or stolen: pawl node secret ${node} --revoke`
  return [
    `Boot medium of Pawl for node ${node}`,
    `Server: ${publicUrl}`,
    `iPXE: ${ipxe.version ?? 'of unknown version'}, ${ipxe.arch}`,
    `Trusts: root certificate with SHA-256 ${ipxe.root}`,
    carries,
    ...(certificate === undefined
      ? []
      : [
          `pawl/client.pem is this node's key. Lost or stolen: pawl node certificate list ${node}, and revoke`,
        ]),
    '',
  ].join('\n')
}

/** A medium as one file. */
export function mediaImage(
  format: Exclude<MediaFormat, 'efi'>,
  content: MediaContent,
  bios?: BiosContent,
): Buffer {
  const files = mediaFiles(content)
  const id = idOf(files)
  if (format === 'usb')
    return usbImage(fatImage(files, { label, volumeId: id, startSector: partitionStart }), id)
  return isoImage(
    fatImage(files, { label, volumeId: id, freeBytes: 0 }),
    label,
    id,
    bios && biosLoader(content, bios),
  )
}

function biosLoader({ siteScript, secret }: MediaContent, bios: BiosContent): BiosLoader {
  const initrd = [...(secret === undefined ? [] : ['/secret.ipx']), '/autoexec.ipx'].join(',')
  const configuration = [
    'SERIAL 0 115200',
    'DEFAULT pawl',
    'LABEL pawl',
    '  KERNEL /ipxe.krn',
    `  INITRD ${initrd}`,
    '',
  ]
  return {
    isolinux: bios.isolinux,
    diskCode: bios.diskCode,
    files: [
      { path: 'LDLINUX.C32', bytes: bios.ldlinux },
      { path: 'IPXE.KRN', bytes: bios.ipxe },
      { path: 'ISOLINUX.CFG', bytes: Buffer.from(configuration.join('\n')) },
      { path: 'AUTOEXEC.IPX', bytes: Buffer.from(siteScript) },
      ...(secret === undefined ? [] : [{ path: 'SECRET.IPX', bytes: Buffer.from(secretScript(secret)) }]),
    ],
  }
}

/** Two media of different content have different numbers, by which systems tell volumes apart. Of secrets it tells nothing. */
function idOf(files: readonly MediaFile[]): number {
  const hash = createHash('sha256')
  const secrets = [secretFileName, certificateFileName]
  for (const { path, bytes } of files) if (!secrets.includes(path)) hash.update(`${path}\0`).update(bytes)
  return hash.digest().readUInt32LE(0)
}
