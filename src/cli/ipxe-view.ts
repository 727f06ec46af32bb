import type { IpxeEntry } from '../ipxe/folder.ts'

/** A binary as `pawl ipxe` shows it. */
export interface IpxeView extends IpxeEntry {
  /** Whether it trusts the root of this data folder's server. */
  readonly trustsUs: boolean
  /**
   * Whether a machine boots from this server by it: `yes`; `with-root`, where firmware tells it our root (or the server's
   * certificate is publicly trusted); `unknown`, since it is packed; `no`.
   */
  readonly boots: 'yes' | 'with-root' | 'unknown' | 'no'
}

/** All binaries of a data folder whose bytes are right. */
export async function ipxeViews(dataDir: string): Promise<IpxeView[]> {
  const { listIpxe } = await import('../ipxe/folder.ts')
  const { ownFingerprints } = await import('../ipxe/own.ts')
  const own = ownFingerprints(dataDir)
  return (await listIpxe(dataDir)).binaries.map(({ path: _path, ...entry }) => viewOf(entry, own))
}

/** One binary, by the fingerprints of the server's roots. */
export function viewOf(entry: IpxeEntry, own: readonly string[]): IpxeView {
  const trustsUs = entry.trust.kind === 'root' && own.includes(entry.trust.fingerprint)
  return { ...entry, trustsUs, boots: bootsOf(entry, trustsUs) }
}

function bootsOf({ trust, platform }: IpxeEntry, trustsUs: boolean): IpxeView['boots'] {
  if (trustsUs) return 'yes'
  if (trust.kind === 'nobody' || trust.kind === 'root') return 'no'
  // A BIOS has nowhere to keep a root certificate.
  return trust.kind === 'public' && platform === 'efi' ? 'with-root' : 'unknown'
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
