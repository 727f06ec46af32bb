import type { IpxeBinaries, IpxeView } from '../ipxe/view.ts'

/** All binaries of a data folder, as the server of it would tell them. */
export async function ipxeBinaries(dataDir: string): Promise<IpxeBinaries> {
  const { listIpxe } = await import('../ipxe/folder.ts')
  const { ownFingerprints } = await import('../ipxe/own.ts')
  const { viewsOf } = await import('../ipxe/view.ts')
  return viewsOf(await listIpxe(dataDir), ownFingerprints(dataDir))
}

/** Those whose bytes are right. */
export async function ipxeViews(dataDir: string): Promise<readonly IpxeView[]> {
  return (await ipxeBinaries(dataDir)).items
}

/** Whom it trusts, in words. */
export function trustWords({ trust, trustsUs }: IpxeView): string {
  if (trustsUs) return 'our root'
  if (trust.kind === 'public') return "public CA (iPXE's own)"
  if (trust.kind === 'root') return `another root, ${trust.fingerprint.slice(0, 12)}`
  return trust.kind === 'nobody' ? 'nobody' : 'cannot be told'
}

/** Which machines boot from this server by it, in words. */
export function bootsWords(view: IpxeView): string {
  const { boots, platform, trust, features } = view
  if (boots === 'yes') return platform === 'efi' ? 'UEFI' : 'BIOS'
  if (boots === 'with-root') return 'UEFI that knows our root'
  if (boots === 'unknown')
    return features === null ? 'BIOS, if built with TRUST=ca.crt' : 'if built with TRUST=ca.crt'
  return trust.kind === 'nobody' ? 'none: it has no HTTPS' : 'none: it trusts another root'
}
