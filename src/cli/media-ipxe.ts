import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { get } from 'node:https'
import { PawlError } from '../errors.ts'
import type { BiosContent, MediaContent } from '../media/build.ts'
import type { MediaParts } from './answers.ts'

/** The iPXE that was asked for. */
export interface FoundIpxe {
  readonly name: string
  readonly bytes: Buffer
}

/**
 * The iPXE of this name: from the data folder where there is one, from a file, else from the server, whose boot listener sends
 * it to whoever asks; its certificate must lead to the root that the operator API named.
 */
export async function findMediaIpxe(
  what: string,
  dataDir: string | undefined,
  { publicUrl, ca }: MediaParts,
): Promise<FoundIpxe> {
  if (dataDir !== undefined) {
    const { findBinary } = await import('../ipxe/own.ts')
    return { name: what, bytes: (await findBinary(dataDir, what)).bytes }
  }
  const { readBounded, ipxeNamePattern } = await import('../ipxe/folder.ts')
  if (existsSync(what)) return { name: what, bytes: await readBounded(what) }
  if (!new RegExp(ipxeNamePattern).test(what)) throw new PawlError('not-found', `there is no iPXE ${what}`)
  return { name: what, bytes: await download(`${publicUrl}/v1/ipxe/${what}`, what, ca) }
}

async function download(url: string, name: string, ca: string): Promise<Buffer> {
  const { maxIpxeBytes } = await import('../ipxe/examine.ts')
  return new Promise((resolve, reject) => {
    const unreachable = (cause: Error): void =>
      reject(
        new PawlError('unreachable', `iPXE ${name} cannot be fetched from ${url}: ${cause.message}`, {
          hint: 'is the boot listener reachable from here? Else name a file with --ipxe',
          cause,
        }),
      )
    const request = get(url, { ca, timeout: 30_000 }, (response) => {
      if (response.statusCode !== 200) {
        response.resume()
        reject(
          new PawlError('not-found', `the server has no iPXE ${name}`, {
            hint: "take Debian's with pawl ipxe fetch --data DIR on the server's machine, or name a file with --ipxe",
          }),
        )
        return
      }
      const parts: Buffer[] = []
      let size = 0
      response.on('data', (part: Buffer) => {
        parts.push(part)
        size += part.length
        if (size > maxIpxeBytes) response.destroy(new Error('it is larger than iPXE can be'))
      })
      response.on('error', unreachable)
      response.on('end', () => resolve(Buffer.concat(parts)))
    })
    request.on('timeout', () => request.destroy(new Error('no answer for 30 s')))
    request.on('error', unreachable)
  })
}

/** The iPXE as it is on the medium: trusting the server's root alone. Throws as `trustRoot`, and for what lacks a feature it needs. */
export async function ipxeForMedia(
  { name, bytes }: FoundIpxe,
  ca: string,
  wants: { readonly vlan: boolean; readonly breakSignature: boolean },
): Promise<MediaContent['ipxe']> {
  const { examineIpxe } = await import('../ipxe/examine.ts')
  const { fingerprintOf, trustRoot } = await import('../ipxe/trust.ts')
  const { arch, version, features } = examineIpxe(bytes, name)
  const root = fingerprintOf(ca)
  const trusting = trustRoot(bytes, name, root, { breakSignature: wants.breakSignature })
  if (wants.vlan && features?.includes('vlan') !== true)
    throw new PawlError('invalid', `${name} knows no VLANs: it was built without the command vcreate`)
  return { bytes: trusting.bytes, arch, version, root }
}

/** Debian's packages of the BIOS loader, and their files. */
const loader = {
  isolinux: ['isolinux', '/usr/lib/ISOLINUX/isolinux.bin'],
  diskCode: ['isolinux', '/usr/lib/ISOLINUX/isohdpfx.bin'],
  ldlinux: ['syslinux-common', '/usr/lib/syslinux/modules/bios/ldlinux.c32'],
} as const

/** What boots a BIOS from an ISO. Throws `invalid` for an iPXE of another form, `usage` where ISOLINUX is not installed. */
export async function biosForMedia(found: FoundIpxe): Promise<BiosContent> {
  const { examineIpxe } = await import('../ipxe/examine.ts')
  if (examineIpxe(found.bytes, found.name).platform !== 'bios' || !found.name.endsWith('.lkrn')) {
    throw new PawlError('invalid', `${found.name} is not an iPXE that ISOLINUX can start`, {
      hint: 'name an ipxe.lkrn of your own build',
    })
  }
  const missing = Object.values(loader).filter(([, file]) => !existsSync(file))
  if (missing.length > 0) {
    const packages = [...new Set(missing.map(([name]) => name))].join(' ')
    throw new PawlError('usage', `media for a BIOS need ${packages}, which this machine does not have`, {
      hint: `apt-get install -y --no-install-recommends ${packages}`,
    })
  }
  const [isolinux, diskCode, ldlinux] = await Promise.all([
    readFile(loader.isolinux[1]),
    readFile(loader.diskCode[1]),
    readFile(loader.ldlinux[1]),
  ])
  return { ipxe: found.bytes, isolinux, diskCode, ldlinux }
}
