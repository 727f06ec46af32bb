import { execFile } from 'node:child_process'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Architecture } from '../../domain/architecture.ts'
import { PawlError } from '../../errors.ts'
import type { Io } from '../io.ts'

/** What an emulated machine needs: Debian's package, and a file of it that shows that it is there. */
const packages: Readonly<Record<Architecture, Readonly<Record<string, string>>>> = {
  x86_64: {
    'qemu-system-x86': '/usr/bin/qemu-system-x86_64',
    ovmf: '/usr/share/OVMF/OVMF_CODE_4M.fd',
  },
  arm64: {
    'qemu-system-arm': '/usr/bin/qemu-system-aarch64',
    'qemu-efi-aarch64': '/usr/share/AAVMF/AAVMF_CODE.fd',
  },
}

/** Debian's iPXE for each. */
const programs: Readonly<Record<Architecture, string>> = {
  x86_64: 'ipxe-trixie/ipxe-amd64.efi',
  arm64: 'ipxe-trixie/ipxe-arm64.efi',
}

/** Throws `usage` naming the packages to install where this machine cannot emulate another. */
export async function checkEmulator(architecture: Architecture): Promise<void> {
  const missing: string[] = []
  for (const [name, file] of Object.entries(packages[architecture]))
    if (!(await isThere(file))) missing.push(name)
  if (missing.length === 0) return
  throw new PawlError(
    'usage',
    `a test boot needs ${missing.join(' and ')}, which this machine does not have`,
    {
      hint: `apt-get install -y --no-install-recommends ${missing.join(' ')}`,
    },
  )
}

/** The iPXE to boot with: the file that was named, else Debian's own build, fetched once into the cache. */
export async function findIpxe(
  io: Io,
  architecture: Architecture,
  named: string | undefined,
  recipes: string,
): Promise<string> {
  if (named !== undefined) {
    if (await isThere(named)) return named
    throw new PawlError('not-found', `there is no iPXE ${named}`)
  }
  const cache = join(io.env.XDG_CACHE_HOME || join(io.env.HOME ?? '', '.cache'), 'pawl')
  const file = join(cache, programs[architecture])
  if (await isThere(file)) return file
  try {
    await promisify(execFile)('sh', [join(recipes, 'fetch.sh'), cache, 'ipxe-trixie'], { timeout: 300_000 })
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string }
    throw new PawlError('not-found', "Debian's iPXE cannot be fetched", {
      hint: `name one with --ipxe FILE.efi (${stderr.trim().split('\n').at(-1) ?? 'images/fetch.sh failed'})`,
      cause: error,
    })
  }
  return file
}

function isThere(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}
