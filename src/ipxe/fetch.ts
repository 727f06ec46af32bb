import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { PawlError } from '../errors.ts'
import { examineIpxe } from './examine.ts'
import { addIpxe, type IpxeBinary } from './folder.ts'
import { trustOf } from './trust.ts'

/** Debian's suites whose iPXE has HTTPS: trixie has 1.21.1, sid 2.0.0. The one of bookworm has none. */
export const fetchSuites = ['trixie', 'sid'] as const

/** Debian's names of what is taken, and the names by which it is served. */
const served = {
  'ipxe-amd64.efi': 'ipxe-x86_64.efi',
  'ipxe-arm64.efi': 'ipxe-arm64.efi',
  'snponly.efi': 'snponly-x86_64.efi',
  'undionly.kpxe': 'undionly.kpxe',
  'ipxe.lkrn': 'ipxe.lkrn',
} as const

/** What is fetched, and where to. */
export interface FetchRequest {
  readonly dataDir: string
  readonly suite: (typeof fetchSuites)[number]
  /** The folder of the image recipes, whose `fetch.sh` knows how Debian is asked. */
  readonly recipes: string
  readonly now: Date
}

/**
 * Takes Debian's own builds of iPXE into the data folder, without root and without touching this machine's apt, which checks
 * Debian's signatures. Throws `unreachable` with what is missing: apt, Debian's keys, a mirror, the network.
 */
export async function fetchIpxe({ dataDir, suite, recipes, now }: FetchRequest): Promise<IpxeBinary[]> {
  const work = await mkdtemp(join(tmpdir(), 'pawl-ipxe-'))
  try {
    const part = join(work, `ipxe-${suite}`)
    await runRecipe(recipes, work, suite)
    const version = versionOf(await readFile(join(part, 'version'), 'utf8'))
    const source = `Debian ${suite}, ipxe ${version}`
    // All are read and examined before the first is added: a package that is not what it was changes nothing.
    const files = await Promise.all(
      Object.entries(served).map(async ([file, name]) => {
        const bytes = await readFile(join(part, file))
        return { name, bytes, examined: examineIpxe(bytes, file) }
      }),
    )
    return files.map(({ name, bytes, examined }) => {
      const { platform, arch, features } = examined
      const trust = trustOf(bytes, examined, [])
      const about = { name, platform, arch, features: features && [...features], trust, source }
      return addIpxe(
        dataDir,
        { ...about, version: examined.version ?? version, addedAt: now.toISOString() },
        bytes,
      )
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function runRecipe(recipes: string, work: string, suite: string): Promise<void> {
  try {
    await promisify(execFile)('sh', [join(recipes, 'fetch.sh'), work, `ipxe-${suite}`], { timeout: 300_000 })
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string }
    const said =
      stderr
        .trim()
        .split('\n')
        .at(-1)
        ?.replace(/^error: /, '') ?? ''
    throw new PawlError(
      'unreachable',
      `Debian's iPXE cannot be fetched: ${said === '' ? 'images/fetch.sh failed' : said}`,
      {
        hint: 'fetch it on a Debian machine with a mirror, or add a build of your own with pawl ipxe add FILE',
        cause: error,
      },
    )
  }
}

/** `ipxe 2.0.0+dfsg-5`, as the recipe writes it. */
function versionOf(text: string): string {
  return text
    .trim()
    .replace(/^ipxe /, '')
    .slice(0, 100)
}
