import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const place = '/dev/shm'
const prefix = 'pawl-tests-'
const enough = 8 * 2 ** 30

/**
 * A folder in memory for what tests write, or undefined where there is none that is large enough and like a disk. A commit waits
 * for a disk some milliseconds, and a run has a hundred thousand: tests kill processes, which memory survives as a disk does.
 */
export function folderInMemory(): string | undefined {
  const mount = existsSync('/proc/mounts') ? readFileSync('/proc/mounts', 'utf8') : ''
  const [, options = 'noexec'] = new RegExp(` ${place} tmpfs (\\S+)`).exec(mount) ?? []
  if (/\b(ro|noexec|nodev|nosuid)\b/.test(options) || process.availableMemory() < enough) return undefined
  removeLeftovers()
  const folder = join(place, `${prefix}${process.pid}`)
  mkdirSync(folder)
  chmodSync(folder, 0o1777) // PostgreSQL is another user, as in /tmp
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** What a run that was killed left. */
function removeLeftovers(): void {
  for (const name of readdirSync(place).filter((name) => name.startsWith(prefix)))
    if (!existsSync(`/proc/${name.slice(prefix.length)}`))
      rmSync(join(place, name), { recursive: true, force: true })
}
