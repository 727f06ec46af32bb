import { chmod, copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { run } from './process.ts'

/** Writes a copy of a filesystem image (squashfs) with more programs in it: files of this machine, by their paths in the image. */
export async function withPrograms(
  filesystem: string,
  out: string,
  programs: Readonly<Record<string, string>>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-filesystem-'))
  const tree = join(folder, 'tree')
  try {
    await run('unsquashfs', ['-no-progress', '-no-xattrs', '-d', tree, filesystem])
    for (const [path, file] of Object.entries(programs)) {
      await mkdir(dirname(join(tree, path)), { recursive: true })
      await copyFile(file, join(tree, path))
      await chmod(join(tree, path), 0o755)
    }
    const options = ['-noappend', '-no-progress', '-quiet', '-no-xattrs', '-all-root', '-comp', 'zstd']
    await run('mksquashfs', [tree, out, ...options])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
