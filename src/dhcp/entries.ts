/**
 * What a DHCP server must say so that every firmware finds its way to this Pawl: one plan, from the server's settings and the iPXE
 * binaries it has, and one writer of it for each DHCP server (`dnsmasq.ts`, `kea.ts`). Pawl answers no DHCP itself.
 *
 * The numbers are IANA's "Processor Architecture Types" (RFC 5970 section 3.3 for DHCPv6; DHCPv4 option 93 uses the same).
 */
import type { DhcpOptions } from './options.ts'

/** An iPXE binary that the server has, as far as it matters here. */
export interface DhcpBinary {
  readonly name: string
  readonly platform: 'efi' | 'bios'
  readonly arch: string
  readonly version: string | null
  /** None where it cannot be told. */
  readonly features: readonly string[] | null
  readonly trust: { readonly kind: 'public' | 'root' | 'nobody' | 'unknown'; readonly fingerprint?: string }
}

/** What the server is. */
export interface DhcpSource {
  /** How machines reach the boot listener. */
  readonly publicUrl: string
  /** SHA-256 of the root certificate (DER), hex. */
  readonly rootFingerprint: string
  /** Where its TFTP listens; undefined where it is off. */
  readonly tftp: { readonly host: string; readonly port: number } | undefined
  readonly binaries: readonly DhcpBinary[]
}

/** A kind of firmware. */
export interface Firmware {
  /** What its tags and classes are called. */
  readonly name: string
  readonly words: string
  /** Its numbers in option 93 (61 of DHCPv6). */
  readonly types: readonly [number, ...number[]]
  readonly platform: 'efi' | 'bios'
  readonly arch: 'x86_64' | 'arm64'
  readonly by: 'tftp' | 'https'
  /** dnsmasq's word for it in a `pxe-service` (client system architecture). */
  readonly pxeService?: readonly string[]
}

/** All that are served. 9 is x64 too: firmware of before the erratum of RFC 4578 sends it. */
export const firmwares: readonly [Firmware, ...Firmware[]] = [
  {
    name: 'bios',
    words: 'BIOS by PXE',
    types: [0],
    platform: 'bios',
    arch: 'x86_64',
    by: 'tftp',
    pxeService: ['x86PC'],
  },
  {
    name: 'efi-x64',
    words: 'x86-64 UEFI by PXE',
    types: [7, 9],
    platform: 'efi',
    arch: 'x86_64',
    by: 'tftp',
    pxeService: ['X86-64_EFI', 'BC_EFI'],
  },
  {
    name: 'efi-arm64',
    words: 'arm64 UEFI by PXE',
    types: [11],
    platform: 'efi',
    arch: 'arm64',
    by: 'tftp',
    pxeService: ['ARM64_EFI'],
  },
  {
    name: 'http-x64',
    words: 'x86-64 UEFI by HTTPS Boot',
    types: [16],
    platform: 'efi',
    arch: 'x86_64',
    by: 'https',
  },
  {
    name: 'http-arm64',
    words: 'arm64 UEFI by HTTPS Boot',
    types: [19],
    platform: 'efi',
    arch: 'arm64',
    by: 'https',
  },
]

/** A firmware and the file it is told. */
export interface Entry extends Firmware {
  /** A file name for TFTP, a URL for HTTPS Boot. */
  readonly file: string
}

/** What is to be written. */
export interface DhcpPlan extends Omit<DhcpOptions, 'tftpServers' | 'bootUrl' | 'binaries'> {
  readonly entries: readonly Entry[]
  readonly tftp: { readonly ipv4?: string; readonly ipv6?: string }
  /** The site script by HTTPS. */
  readonly scriptUrl: string
  /** What the reader must know or do; lines of comment, and the command's notes. */
  readonly remarks: readonly string[]
}

/** Makes the plan; what cannot be served is left out with a remark that says why and what to do. */
export function planDhcp(source: DhcpSource, options: DhcpOptions): DhcpPlan {
  const remarks: string[] = []
  const base = options.bootUrl ?? source.publicUrl
  const tftp = tftpServers(source, options, base, remarks)
  const entries: Entry[] = []
  for (const firmware of firmwares) {
    if (firmware.by === 'tftp' && tftp.ipv4 === undefined && tftp.ipv6 === undefined) continue
    const chosen = choose(source, options, firmware)
    if (chosen === undefined) {
      remarks.push(`No iPXE for ${firmware.words}: ${missing(firmware)}`)
      continue
    }
    remarks.push(...remarksOf(chosen, firmware))
    const file = firmware.by === 'tftp' ? chosen.name : `${base}/v1/ipxe/${chosen.name}`
    entries.push({ ...firmware, file })
  }
  const { hostname: host } = new URL(base)
  if (options.dns.length === 0 && !isAddress(host))
    remarks.push(
      `Machines look up the name in ${base}: they must be told a DNS server (${options.proxy ? 'by the other DHCP server' : '--dns'})`,
    )
  const { tftpServers: _servers, bootUrl: _url, binaries: _binaries, ...rest } = options
  return {
    ...rest,
    entries,
    tftp,
    scriptUrl: `${base}/v1/ipxe/autoexec.ipxe`,
    remarks: [...new Set(remarks)],
  }
}

function tftpServers(
  { tftp }: DhcpSource,
  { tftpServers: given }: DhcpOptions,
  base: string,
  remarks: string[],
): DhcpPlan['tftp'] {
  const { hostname: publicHost } = new URL(base)
  const candidates = [...given]
  if (tftp === undefined && given.length === 0) {
    remarks.push('The server serves no TFTP (--tftp-listen): firmware that boots by PXE is not answered')
    return {}
  }
  if (given.length === 0 && tftp !== undefined)
    candidates.push(...[tftp.host, publicHost].map(bare).filter(isSpecific))
  if (tftp !== undefined && tftp.port !== 69 && given.length === 0)
    remarks.push(`The server's TFTP is at port ${tftp.port}: firmware asks port 69 and no other`)
  if (candidates.length === 0)
    remarks.push(
      'No address of the TFTP server is known (--tftp-server): firmware that boots by PXE is not answered',
    )
  const ipv4 = candidates.find((address) => !address.includes(':'))
  const ipv6 = candidates.find((address) => address.includes(':'))
  return { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) }
}

/** The best of those that can work: one that trusts our root before one of which nobody knows, before a stock one; then the newest. */
function choose(
  { binaries, rootFingerprint }: DhcpSource,
  { binaries: wanted }: DhcpOptions,
  { platform, arch }: Firmware,
): DhcpBinary | undefined {
  const fitting = binaries.filter((each) => each.platform === platform && fits(each, platform, arch))
  const named = fitting.find(({ name }) => wanted.includes(name))
  if (named !== undefined) return named
  const ranked = fitting
    .filter(({ features }) => features === null || features.includes('https'))
    .map((binary) => ({ binary, rank: rankOf(binary, rootFingerprint) }))
    .filter(({ rank }) => rank < unusable)
  ranked.sort(
    (a, b) =>
      a.rank - b.rank ||
      compareVersions(b.binary.version, a.binary.version) ||
      (a.binary.name < b.binary.name ? -1 : 1),
  )
  return ranked[0]?.binary
}

const unusable = 3

function rankOf({ trust }: DhcpBinary, rootFingerprint: string): number {
  if (trust.kind === 'root') return trust.fingerprint === rootFingerprint ? 0 : unusable
  return { unknown: 1, public: 2, nobody: unusable }[trust.kind]
}

/** A BIOS takes network programs only; a `.lkrn` is for disks. */
function fits({ name, arch }: DhcpBinary, platform: 'efi' | 'bios', wanted: string): boolean {
  return platform === 'bios' ? /\.k?k?pxe$/.test(name) : arch === wanted
}

function missing({ platform, by }: Firmware): string {
  if (platform === 'bios') return 'pawl ipxe add a .kpxe that was built to trust the root'
  return by === 'tftp' ? 'pawl ipxe fetch, then pawl ipxe trust' : 'pawl ipxe fetch'
}

function remarksOf({ name, trust }: DhcpBinary, { by, platform }: Firmware): string[] {
  if (trust.kind === 'public' && by === 'tftp')
    return [
      `${name} trusts the root only where the firmware does (TlsCaCertificate): pawl ipxe trust makes one that does`,
    ]
  if (trust.kind === 'unknown' && platform === 'bios')
    return [
      `Nobody can see whom ${name} trusts: only an iPXE that was built with the root (TRUST=) reaches the server`,
    ]
  return []
}

function compareVersions(a: string | null, b: string | null): number {
  const [left, right] = [numbers(a), numbers(b)]
  for (let i = 0; i < 3; i += 1) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

function numbers(version: string | null): number[] {
  return (version ?? '').split(/[^0-9]+/, 3).map(Number)
}

function bare(host: string): string {
  return host.replace(/^\[|\]$/g, '')
}

/** Whether a host is one address that machines can be told. */
function isSpecific(host: string): boolean {
  return isAddress(host) && host !== '0.0.0.0' && host !== '::' && host !== '::1' && !host.startsWith('127.')
}

function isAddress(host: string): boolean {
  return host.includes(':') || /^\d+\.\d+\.\d+\.\d+$/.test(host)
}
