import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

/** images/lib/medium.sh in a shell like the images have, where mount does what a test says. */
function mountMedium(
  t: Test,
  mount: string,
  limitSeconds = 30,
): { status: string; seconds: number; folder: string } {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-medium-'))
  t.teardown(() => {
    const left = join(folder, 'pid')
    if (existsSync(left)) process.kill(Number(readFileSync(left, 'utf8')), 'SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  mkdirSync(join(folder, 'run'))
  for (const [name, script] of [
    ['mount', mount.replaceAll('FOLDER', folder)],
    ['findfs', 'echo /dev/medium'],
  ] as const) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(folder, name), 0o755)
  }
  const script = [
    'set -eu',
    'load_drivers() { :; }',
    `RUN=${join(folder, 'run')}`,
    `. ${join(import.meta.dirname, '../../images/lib/medium.sh')}`,
    `MEDIUM_MOUNT_SECONDS=${limitSeconds}`,
    'if mount_medium ro; then echo mounted; else echo "no medium $?"; fi',
  ]
  const began = performance.now()
  const { stdout } = spawnSync('/bin/sh', ['-c', script.join('\n')], {
    env: { PATH: `${folder}:${process.env.PATH}` },
    encoding: 'utf8',
    // A mount that is left behind keeps its ends of pipes open: only what the script says counts.
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 60_000,
  })
  return { status: stdout.trim(), seconds: (performance.now() - began) / 1000, folder }
}

t.test(
  'a medium whose mount hangs and hears no signal costs its time limit, and the boot goes on',
  async (t) => {
    const { status, seconds } = mountMedium(
      t,
      "exec >/dev/null; echo $$ >FOLDER/pid; trap '' TERM INT HUP; exec sleep 300",
      1,
    )
    t.equal(status, 'no medium 124')
    t.ok(seconds < 60)
  },
)

t.test('a mount that fails is told, with what it said kept', async (t) => {
  const { status, folder } = mountMedium(t, 'echo "wrong fs type" >&2; exit 32')
  t.equal(status, 'no medium 32')
  t.match(readFileSync(join(folder, 'run/medium.error'), 'utf8'), /wrong fs type/)
})

t.test('a mount that works is asked for read-only, and to run nothing from it', async (t) => {
  const { status, folder } = mountMedium(t, 'echo "$@" >FOLDER/asked')
  t.equal(status, 'mounted')
  t.match(
    readFileSync(join(folder, 'asked'), 'utf8'),
    /-t vfat -o ro,nosuid,nodev,noexec,umask=077 \/dev\/medium /,
  )
})
