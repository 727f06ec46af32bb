import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { cacheFolder, ensureArtifacts, ensureGenericImages } from './helpers/artifacts.ts'
import { run } from './helpers/site.ts'
import { ensureBootTools } from './helpers/tools.ts'

ensureBootTools()
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
