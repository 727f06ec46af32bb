import { spawnSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'

/** Every Debian package that the images and the boot tests need, with one file of it that shows that it is there. */
export const bootPackages = {
  'qemu-system-x86': '/usr/bin/qemu-system-x86_64',
  ovmf: '/usr/share/OVMF/OVMF_CODE_4M.fd',
  'busybox-static': '/usr/bin/busybox',
  'kexec-tools': '/usr/sbin/kexec',
  cpio: '/usr/bin/cpio',
  curl: '/usr/bin/curl',
  jq: '/usr/bin/jq',
  openssl: '/usr/bin/openssl',
  'dhcpcd-base': '/usr/sbin/dhcpcd',
  nftables: '/usr/sbin/nft',
  'squashfs-tools': '/usr/bin/mksquashfs',
  'xz-utils': '/usr/bin/xz',
  zstd: '/usr/bin/zstd',
} as const

/** What the Debian stage 3 and its test need beside them. */
export const debianPackages = {
  mmdebstrap: '/usr/bin/mmdebstrap',
  'openssh-client': '/usr/bin/ssh-keyscan',
} as const

/** What arm64 machines need beside them. */
export const arm64Packages = {
  'qemu-system-arm': '/usr/bin/qemu-system-aarch64',
  'qemu-efi-aarch64': '/usr/share/AAVMF/AAVMF_CODE.fd',
  binutils: '/usr/bin/readelf',
} as const

/** The packages of `bootPackages`, or of another such table, that this machine does not have. */
export function missingBootPackages(packages: Readonly<Record<string, string>> = bootPackages): string[] {
  return Object.entries(packages)
    .filter(([, file]) => !isThere(file))
    .map(([name]) => name)
}

/** The one line that installs what is missing. */
export function installLine(packages: readonly string[]): string {
  return `apt-get install -y --no-install-recommends ${packages.join(' ')}`
}

/**
 * Makes sure that all boot packages are there. Installs them when running as root; else throws an error that names the one line to
 * run. Never asks a question.
 */
export function ensureBootTools(
  say: (line: string) => void = () => undefined,
  packages: Readonly<Record<string, string>> = bootPackages,
): void {
  const missing = missingBootPackages(packages)
  if (missing.length === 0) return
  const line = installLine(missing)
  if (process.getuid?.() !== 0) throw new Error(`missing packages; run: sudo ${line}`)
  say(`installing ${missing.join(' ')}`)
  apt(['update', '-qq'])
  apt(line.split(' ').slice(1))
  const still = missingBootPackages(packages)
  if (still.length > 0) throw new Error(`installed, but not found: ${still.join(' ')}`)
}

function apt(args: string[]): void {
  const done = spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=120', ...args], {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
  if (done.error) throw new Error(`apt-get does not run: ${done.error.message}`)
  if (done.status !== 0) {
    throw new Error(
      `apt-get ${args.join(' ')} failed: ${done.stderr.trim().split('\n').slice(-3).join(' · ')}`,
    )
  }
}

function isThere(file: string): boolean {
  try {
    accessSync(file, constants.R_OK)
    return true
  } catch {
    return false
  }
}
