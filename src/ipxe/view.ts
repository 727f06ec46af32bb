import type { IpxeEntry, IpxeListing } from './folder.ts'

/** A binary as it is shown. */
export interface IpxeView extends IpxeEntry {
  /** Whether it trusts the root of this data folder's server. */
  readonly trustsUs: boolean
  /**
   * Whether a machine boots from this server by it: `yes`; `with-root`, where firmware tells it our root (or the server's
   * certificate is publicly trusted); `unknown`, since it is packed; `no`.
   */
  readonly boots: 'yes' | 'with-root' | 'unknown' | 'no'
}

/** The binaries of a server, and what of its folder is not served. */
export interface IpxeBinaries {
  readonly items: readonly IpxeView[]
  readonly faults: IpxeListing['faults']
}

/** One binary, by the fingerprints of the server's roots. */
export function viewOf(entry: IpxeEntry, own: readonly string[]): IpxeView {
  const trustsUs = entry.trust.kind === 'root' && own.includes(entry.trust.fingerprint)
  return { ...entry, trustsUs, boots: bootsOf(entry, trustsUs) }
}

/** All of a listing: where the files are on the server's disk stays there. */
export function viewsOf({ binaries, faults }: IpxeListing, own: readonly string[]): IpxeBinaries {
  return { items: binaries.map(({ path: _path, ...entry }) => viewOf(entry, own)), faults }
}

function bootsOf({ trust, platform }: IpxeEntry, trustsUs: boolean): IpxeView['boots'] {
  if (trustsUs) return 'yes'
  if (trust.kind === 'nobody' || trust.kind === 'root') return 'no'
  // A BIOS has nowhere to keep a root certificate.
  return trust.kind === 'public' && platform === 'efi' ? 'with-root' : 'unknown'
}
