import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { cacheFolder, ensureArtifacts, ensureDebianImage, ensureGenericImages } from './helpers/artifacts.ts'
import { run } from './helpers/process.ts'
import { bootPackages, debianPackages, ensureBootTools } from './helpers/tools.ts'

ensureBootTools(undefined, { ...bootPackages, ...debianPackages })
const recipes = join(import.meta.dirname, '../../images')

function digests(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(folder, name)).isFile(),
  )
  return Object.fromEntries(
    files.sort().map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]),
  )
}

/** Builds again, in another folder, with another umask and at another place of the world, and compares with what is in the cache. */
async function comparesWith(
  t: Test,
  built: string,
  ...recipe: [string, ...string[]]
): Promise<Record<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-images-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'somewhere else'))
  const out = join(folder, 'somewhere else/out')
  const [script, ...args] = recipe
  const command = [join(recipes, script), '--cache', cacheFolder(), '--out', out, ...args]
  await run('sh', ['-c', 'umask 077; TZ=Asia/Tokyo exec "$@"', 'sh', ...command])
  const again = digests(out)
  t.same(again, digests(built))
  return again
}

t.test('the small images are the same bytes, whoever builds them where and when', async (t) => {
  const built = dirname(dirname((await ensureArtifacts()).stage2.kernel))
  t.same(Object.keys(await comparesWith(t, built, 'build.sh')), [
    'stage2/annotations.json',
    'stage2/initramfs',
    'stage2/packages.txt',
    'stage2/vmlinuz',
    'stage3/annotations.json',
    'stage3/filesystem.squashfs',
    'stage3/initramfs',
    'stage3/packages.txt',
    'stage3/vmlinuz',
  ])
})

t.test('so are those for real servers', async (t) => {
  const built = dirname(dirname((await ensureGenericImages()).stage2.kernel))
  await comparesWith(t, built, 'build.sh', '--kernel', 'generic')
})

t.test('so is Debian, and there is nothing in it of the machine that built it', async (t) => {
  const { filesystem } = await ensureDebianImage()
  const built = dirname(dirname(filesystem))
  const list = join(dirname(filesystem), 'packages.txt')
  await comparesWith(t, built, 'debian/build.sh', '--packages', list)

  const files = await run('unsquashfs', ['-d', '', '-lls', filesystem])
  const found = (pattern: RegExp): string[] => files.split('\n').filter((line) => pattern.test(line))
  t.match(files, /^drwxr-xr-x root\/root +\d+ 2026-01-01 00:00 $/m, "the root folder is root's")
  t.match(found(/ \/etc\/machine-id$/), [/ 0 \d{4}-/], 'machine-id is empty')
  t.same(
    found(/ssh_host_|authorized_keys|\/etc\/hostname$|resolv\.conf.*bak|var\/lib\/systemd\/random-seed/),
    [],
    'no keys, no name',
  )
  t.same(
    found(/^-.* \/var\/(log|cache)\/|^-.* \/var\/lib\/apt\/lists\/(?!lock)|99mmdebstrap|sources\.list$/),
    [],
  )
  for (const name of ['sshd', 'containerd', 'conntrack', 'ebtables', 'ethtool', 'iptables', 'socat'])
    t.equal(found(new RegExp(`/s?bin/${name}( -> .*)?$`)).length, 1, name)
  t.equal(found(/ \/boot\/config-/).length, 1, "the kernel's settings, which kubeadm reads")

  const said = JSON.parse(readFileSync(join(dirname(filesystem), 'annotations.json'), 'utf8'))
  const purls = JSON.parse(said['sbom.cyclonedx']).components.map((c: { purl: string }) => c.purl)
  for (const line of readFileSync(list, 'utf8').trimEnd().split('\n')) {
    const [, name = '', version = '', architecture = ''] = /^(\S+)=(\S+) (\S+) [0-9a-f]{64}$/.exec(line) ?? []
    const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${architecture}`
    t.ok(
      purls.some((other: string) => other.startsWith(`${purl}&`)),
      name,
    )
  }
})
