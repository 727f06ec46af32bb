import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm, utimes } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const recipes = fileURLToPath(new URL('../../../images/', import.meta.url))

/** The iPXE builds of Debian that are tried: trixie has 1.21.1, sid has 2.0.0. */
export type IpxeSuite = 'trixie' | 'sid'

/** Files of one published image, as `pawl image publish` takes them. */
export interface ImageFiles {
  readonly kernel: string
  readonly initramfs: string
}

/** What a boot needs beside the server. All are absolute paths below the cache folder. */
export interface BootArtifacts {
  /** A fingerprint of recipes, kernel and tools: changes when the bytes may change. */
  readonly key: string
  readonly stage2: ImageFiles
  readonly stage3: ImageFiles & { readonly filesystem: string }
  /** `ipxe-amd64.efi` of each suite. */
  readonly ipxe: Record<IpxeSuite, string>
}

/** Where downloads and built images are kept: `$XDG_CACHE_HOME/pawl`, else `~/.cache/pawl`. Never inside git. */
export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'pawl')
}

/**
 * Fetches (kernel, iPXE) and builds (images) what is not in the cache yet. The first time takes about 40 s, later ones none.
 * Two processes may do it at once: each builds in a folder of its own, and the first to rename wins.
 */
export async function ensureArtifacts(say: (line: string) => void = () => undefined): Promise<BootArtifacts> {
  const cache = cacheFolder()
  await mkdir(cache, { recursive: true })
  await recipe('fetch.sh', [cache], say)
  const key = await buildKey(cache)
  const built = join(cache, `images-${key}`)
  if (!(await exists(built))) {
    say('building the stage-2 and stage-3 images')
    await build(cache, built, say)
  }
  await removeOldBuilds(cache, built)
  return {
    key,
    stage2: { kernel: join(built, 'stage2/vmlinuz'), initramfs: join(built, 'stage2/initramfs') },
    stage3: {
      kernel: join(built, 'stage3/vmlinuz'),
      initramfs: join(built, 'stage3/initramfs'),
      filesystem: join(built, 'stage3/filesystem.squashfs'),
    },
    ipxe: {
      trixie: join(cache, 'ipxe-trixie/ipxe-amd64.efi'),
      sid: join(cache, 'ipxe-sid/ipxe-amd64.efi'),
    },
  }
}

async function build(cache: string, built: string, say: (line: string) => void): Promise<void> {
  const folder = await mkdtemp(join(cache, '.build-'))
  try {
    await recipe('build.sh', ['--cache', cache, '--out', join(folder, 'out')], say)
    await rename(join(folder, 'out'), built).catch(async (error: unknown) => {
      // Another process was first: its bytes are the same, as the recipes are reproducible.
      if (!(await exists(built))) throw error
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Recipes, kernel version and the installed versions of the programs that go into the images. */
async function buildKey(cache: string): Promise<string> {
  const hash = createHash('sha256')
  for (const file of await filesBelow(recipes)) {
    if (file.endsWith('.md')) continue
    hash
      .update(relative(recipes, file))
      .update('\0')
      .update(await readFile(file))
      .update('\0')
  }
  hash.update(await readFile(join(cache, 'kernel/version')))
  const names = [
    'busybox-static',
    'curl',
    'libcurl4',
    'libssl3',
    'libc6',
    'kexec-tools',
    'jq',
    'nftables',
    'squashfs-tools',
  ]
  const query = ['-W', '-f', '${Package} ${Version}\n', ...names]
  // dpkg-query ends with 1 when it does not know one of the names, as on another Debian release: the others count.
  hash.update(
    await run('dpkg-query', query).then(
      (done) => done.stdout,
      (error: { stdout?: string }) => error.stdout ?? '',
    ),
  )
  return hash.digest('hex').slice(0, 16)
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

/** Keeps the three newest builds: a checkout that goes back and forth must not fill the disk. */
async function removeOldBuilds(cache: string, used: string): Promise<void> {
  const now = new Date()
  await utimes(used, now, now)
  const { stdout } = await run('ls', ['-t', cache])
  const builds = stdout.split('\n').filter((name) => name.startsWith('images-'))
  for (const name of builds.slice(3)) await rm(join(cache, name), { recursive: true, force: true })
}

async function recipe(script: string, args: string[], say: (line: string) => void): Promise<void> {
  try {
    const done = await run('sh', [join(recipes, script), ...args], { timeout: 600_000 })
    for (const line of done.stderr.split('\n')) if (line !== '') say(line)
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string }
    throw new Error(`images/${script}: ${stderr?.trim().replace(/^error: /, '') || message}`)
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
