import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { cacheFolder, ensureArtifacts } from './helpers/artifacts.ts'
import { run } from './helpers/site.ts'
import { ensureBootTools } from './helpers/tools.ts'

ensureBootTools()
await ensureArtifacts()
const build = join(import.meta.dirname, '../../images/build.sh')

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

t.test('the images are the same bytes, whoever builds them where and when', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-images-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'somewhere else'))
  const one = join(folder, 'one')
  const two = join(folder, 'somewhere else/two')
  await run('sh', ['-c', `umask 022; TZ=UTC "${build}" --cache "${cacheFolder()}" --out "${one}"`])
  await run('sh', [
    '-c',
    `umask 077; TZ=Asia/Tokyo LC_ALL=C "${build}" --cache "${cacheFolder()}" --out "${two}"`,
  ])
  const first = digests(one)
  t.same(Object.keys(first), [
    'stage2/initramfs',
    'stage2/vmlinuz',
    'stage3/filesystem.squashfs',
    'stage3/initramfs',
    'stage3/vmlinuz',
  ])
  t.same(digests(two), first)
})
