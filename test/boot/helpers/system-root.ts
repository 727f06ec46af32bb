import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { cacheFolder } from './artifacts.ts'
import { run } from './process.ts'

const script = join(import.meta.dirname, '../../helpers/system-root.sh')
const suite = 'bookworm'
/** What the system has beside Debian's essential packages. */
const packages = ['ca-certificates', 'cloud-init', 'curl', 'ignition']

/** The Debian packages that it takes, with one file of each. */
export const systemRootPackages = { mmdebstrap: '/usr/bin/mmdebstrap' } as const

/** Why no such system can be run here; undefined where one can. With PAWL_REQUIRE=all that is a failure, and never said here. */
export function systemRootAbsent(): string | undefined {
  if (process.env.PAWL_REQUIRE === 'all') return undefined
  if (process.getuid?.() !== 0) return 'needs root: a Debian of its own in namespaces'
  if (!existsSync(systemRootPackages.mmdebstrap)) return 'needs the Debian package mmdebstrap'
  const tried = spawnSync('unshare', ['--mount', '--uts', '--ipc', '--pid', '--fork', 'true'])
  return tried.status === 0 ? undefined : 'cannot make namespaces here'
}

/**
 * A Debian with cloud-init and Ignition as an archive in the cache: a minute the first time, none later. Two processes may make it at once:
 * the first to rename wins.
 */
export async function ensureSystemRoot(say: (line: string) => void = () => undefined): Promise<string> {
  const key = createHash('sha256')
    .update([suite, ...packages].join())
    .digest('hex')
    .slice(0, 16)
  const archive = join(cacheFolder(), `system-${key}.tar`)
  if (existsSync(archive)) return archive
  await mkdir(cacheFolder(), { recursive: true })
  const folder = await mkdtemp(join(cacheFolder(), '.system-'))
  try {
    say(`installing ${packages.join(', ')} into a Debian of its own`)
    const made = join(folder, 'system.tar')
    await run('mmdebstrap', [
      ...['--quiet', '--mode=root', '--variant=essential', `--include=${packages.join()}`],
      ...['--aptopt=APT::Install-Recommends "false"', '--dpkgopt=force-unsafe-io'],
      ...['--dpkgopt=path-exclude=/usr/share/doc/*', '--dpkgopt=path-exclude=/usr/share/man/*'],
      ...['--dpkgopt=path-exclude=/usr/share/locale/*', suite, made],
      ...(await mirror()),
    ])
    await rename(made, archive)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return archive
}

/** Where this machine has its own packages from. */
async function mirror(): Promise<string[]> {
  const named = process.env.PAWL_DEBIAN_MIRROR
  if (named !== undefined) return [named]
  const uris = await run('apt-get', ['indextargets', '--format', '$(REPO_URI)', `Codename: ${suite}`])
  return uris
    .split('\n')
    .slice(0, 1)
    .filter((uri) => uri !== '')
}

/** What a script in such a system said, and how it ended. */
export interface SystemRun {
  readonly code: number | null
  readonly output: string
}

/** Runs a shell script as root of a fresh copy of the system. */
export async function runInSystem(
  t: Test,
  archive: string,
  text: string,
  { files = {}, cmdline = 'quiet' }: { files?: Readonly<Record<string, string>>; cmdline?: string } = {},
): Promise<SystemRun> {
  const out = await mkdtemp(join(tmpdir(), 'pawl-system-'))
  t.teardown(() => rm(out, { recursive: true, force: true }))
  await writeFile(join(out, 'cmdline'), `${cmdline}\n`)
  await writeFile(join(out, 'script'), `{\n${text}\n} 2>&1\n`)
  for (const [name, content] of Object.entries(files))
    await writeFile(join(out, name), content, { mode: 0o700 })
  const args = ['--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child', 'sh', script, archive, out]
  return new Promise((resolve, reject) => {
    const child = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 900_000 })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (more: string) => {
        output += more
      })
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, output }))
  })
}
