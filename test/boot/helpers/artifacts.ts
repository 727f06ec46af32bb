import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm, utimes } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { kubernetesAbsent, kubernetesFolder } from '../../helpers/kubernetes-cluster.ts'

const run = promisify(execFile)
const recipes = fileURLToPath(new URL('../../../images/', import.meta.url))

/** The iPXE builds of Debian that are tried: trixie has 1.21.1, sid has 2.0.0. */
export type IpxeSuite = 'trixie' | 'sid'

/** Files of one published image, as `pawl image publish` takes them. */
export interface ImageFiles {
  readonly kernel: string
  readonly initramfs: string
  /** What the manifest says about it: a JSON object of words. */
  readonly annotations: string
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
  const { built, key } = await ensureBuilt('images', ['kernel'], ['build.sh'], say)
  await recipe('fetch.sh', [cache, 'ipxe-trixie', 'ipxe-sid'], say)
  return {
    key,
    stage2: filesOf(join(built, 'stage2')),
    stage3: withFilesystem(join(built, 'stage3')),
    ipxe: {
      trixie: join(cache, 'ipxe-trixie/ipxe-amd64.efi'),
      sid: join(cache, 'ipxe-sid/ipxe-amd64.efi'),
    },
  }
}

/** The small images with the kernel, the drivers and the firmware for real servers. Two minutes the first time. */
export async function ensureGenericImages(
  say: (line: string) => void = () => undefined,
): Promise<Pick<BootArtifacts, 'stage2' | 'stage3'>> {
  const parts = ['kernel-generic', 'firmware']
  const { built } = await ensureBuilt('generic', parts, ['build.sh', '--kernel', 'generic'], say)
  return { stage2: filesOf(join(built, 'stage2')), stage3: withFilesystem(join(built, 'stage3')) }
}

/** The small images for arm64, and its iPXE of each suite. Two minutes the first time. */
export async function ensureArm64Images(
  say: (line: string) => void = () => undefined,
): Promise<Pick<BootArtifacts, 'stage2' | 'stage3' | 'ipxe'>> {
  const cache = cacheFolder()
  const parts = ['kernel-arm64', 'tools-arm64']
  const { built } = await ensureBuilt('arm64', parts, ['build.sh', '--arch', 'arm64'], say)
  await recipe('fetch.sh', [cache, 'ipxe-trixie', 'ipxe-sid'], say)
  return {
    stage2: filesOf(join(built, 'stage2')),
    stage3: withFilesystem(join(built, 'stage3')),
    ipxe: {
      trixie: join(cache, 'ipxe-trixie/ipxe-arm64.efi'),
      sid: join(cache, 'ipxe-sid/ipxe-arm64.efi'),
    },
  }
}

/** The Debian stage 3. Two minutes the first time. */
export async function ensureDebianImage(
  say: (line: string) => void = () => undefined,
): Promise<BootArtifacts['stage3']> {
  const parts = ['kernel-generic', 'firmware', 'debian']
  const { built } = await ensureBuilt('debian', parts, ['debian/build.sh'], say)
  return withFilesystem(join(built, 'debian'))
}

/** Why `ensureKubernetesImage` cannot be had here; undefined where it can. */
export function kubernetesImageAbsent(): string | undefined {
  return (
    kubernetesAbsent() ??
    (existsSync(kubernetesPackages()) ? undefined : `${kubernetesPackages()} is missing`)
  )
}

/** The Debian stage 3 with the packages that `.ci/kubernetes` has built: kubeadm, kubelet and crictl. Two minutes the first time. */
export async function ensureKubernetesImage(
  say: (line: string) => void = () => undefined,
): Promise<BootArtifacts['stage3']> {
  const parts = ['kernel-generic', 'firmware', 'debian']
  const packages = kubernetesPackages()
  const recipe = ['debian/build.sh', '--debs', packages] as const
  const { built } = await ensureBuilt('with-kubernetes', parts, recipe, say, await filesBelow(packages))
  return withFilesystem(join(built, 'debian'))
}

function kubernetesPackages(): string {
  return join(kubernetesFolder(), 'debs')
}

function filesOf(folder: string): ImageFiles {
  return {
    kernel: join(folder, 'vmlinuz'),
    initramfs: join(folder, 'initramfs'),
    annotations: join(folder, 'annotations.json'),
  }
}

function withFilesystem(folder: string): ImageFiles & { readonly filesystem: string } {
  return { ...filesOf(folder), filesystem: join(folder, 'filesystem.squashfs') }
}

/**
 * Builds once what a recipe makes, in a folder of the cache that is named for all that can change its bytes.
 * @param parts what fetch.sh must have fetched; the first is a kernel
 * @param more files of this machine that go into it
 * @returns the folder, and its key
 */
async function ensureBuilt(
  name: string,
  parts: readonly string[],
  [script, ...args]: readonly [string, ...string[]],
  say: (line: string) => void,
  more: readonly string[] = [],
): Promise<{ built: string; key: string }> {
  const cache = cacheFolder()
  await mkdir(cache, { recursive: true })
  await recipe('fetch.sh', [cache, ...parts], say)
  const key = await buildKey(cache, parts, more)
  const built = join(cache, `${name}-${key}`)
  if (!(await exists(built))) {
    say(`building ${name}`)
    await build(cache, built, [script, ...args], say)
  }
  await removeOldBuilds(cache, name, built)
  return { built, key }
}

async function build(
  cache: string,
  built: string,
  [script, ...args]: readonly [string, ...string[]],
  say: (line: string) => void,
): Promise<void> {
  const folder = await mkdtemp(join(cache, '.build-'))
  try {
    await recipe(script, ['--cache', cache, '--out', join(folder, 'out'), ...args], say)
    await rename(join(folder, 'out'), built).catch(async (error: unknown) => {
      // Another process was first: its bytes are the same, as the recipes are reproducible.
      if (!(await exists(built))) throw error
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Recipes, what was fetched, and the installed versions of the programs that go into the images. */
async function buildKey(cache: string, parts: readonly string[], more: readonly string[]): Promise<string> {
  const hash = createHash('sha256')
  for (const file of await filesBelow(recipes)) {
    if (file.endsWith('.md')) continue
    hash
      .update(relative(recipes, file))
      .update('\0')
      .update(await readFile(file))
      .update('\0')
  }
  for (const part of parts) hash.update(await readFile(join(cache, part, 'packages.txt')))
  for (const file of more) hash.update(await readFile(file))
  const names = [
    'busybox-static',
    'curl',
    'libcurl4',
    'libssl3',
    'libc6',
    'kexec-tools',
    'jq',
    'openssl',
    'dhcpcd-base',
    'nftables',
    'squashfs-tools',
    'zstd',
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

/** Keeps the newest builds: a checkout that goes back and forth must not fill the disk. */
async function removeOldBuilds(cache: string, name: string, used: string): Promise<void> {
  const now = new Date()
  await utimes(used, now, now)
  const { stdout } = await run('ls', ['-t', cache])
  const builds = stdout.split('\n').filter((other) => other.startsWith(`${name}-`))
  for (const old of builds.slice(3)) await rm(join(cache, old), { recursive: true, force: true })
}

async function recipe(script: string, args: string[], say: (line: string) => void): Promise<void> {
  try {
    const done = await run('sh', [join(recipes, script), ...args], { timeout: 1_800_000 })
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
