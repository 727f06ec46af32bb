import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { freePort } from './ports.ts'
import type { Cluster } from './postgres-cluster.ts'

const program = '/usr/sbin/pgbouncer'

/** Why there is no PgBouncer here; undefined where there is. With PAWL_REQUIRE=all its absence is a failure. */
export function pgbouncerAbsent(): string | undefined {
  return spawnSync(program, ['--version']).status === 0 ? undefined : 'PgBouncer is not installed'
}

/** Starts one before a cluster, and ends it with the test. Returns the URL of a database behind it. */
export async function startPgbouncer(
  t: Test,
  { port: behind }: Pick<Cluster, 'port'>,
  mode: 'session' | 'transaction' | 'statement',
): Promise<(database: string) => string> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-pgbouncer-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const user = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid)
  const port = await freePort()
  const file = join(folder, 'pgbouncer.ini')
  writeFileSync(
    file,
    `[databases]
* = host=127.0.0.1 port=${behind} user=pawl
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = ${mode}
default_pool_size = 40
`,
  )
  const child = spawn(program, [file], { ...user, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(async () => {
    if (child.exitCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  })
  let said = ''
  const up = new Promise<void>((resolve) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.includes('process up')) resolve()
    })
  })
  const ended = once(child, 'exit').then(() => Promise.reject(new Error(`PgBouncer did not start: ${said}`)))
  ended.catch(() => {})
  await Promise.race([up, ended])
  return (database) => `postgres://pawl@127.0.0.1:${port}/${database}`
}
