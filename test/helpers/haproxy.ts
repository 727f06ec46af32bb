import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { freePort } from './ports.ts'
import type { Cluster } from './postgres-cluster.ts'
import { root } from './release.ts'

/** Why there is no HAProxy here; undefined where there is. With PAWL_REQUIRE=all its absence is a failure. */
export function haproxyAbsent(): string | undefined {
  return spawnSync('haproxy', ['-v']).status === 0 ? undefined : 'HAProxy is not installed'
}

/** Runs one by a configuration until the test ends. Resolves when it takes connections on `port`. */
export async function startHaproxy(t: Test, configuration: string, port: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-haproxy-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'haproxy.cfg')
  writeFileSync(file, configuration)
  const child = spawn('haproxy', ['-db', '-f', file], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  t.teardown(async () => {
    if (child.exitCode !== null) return
    const ended = once(child, 'close')
    child.kill('SIGKILL')
    await ended
  })
  for (;;) {
    if (child.exitCode !== null) throw new Error(`HAProxy ended: ${said}`)
    const socket = connect(port, '127.0.0.1').on('error', () => {})
    const event = await new Promise((resolve) => {
      socket.once('connect', () => resolve('connect')).once('close', () => resolve('close'))
    })
    socket.destroy()
    if (event === 'connect') return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** HAProxy by the example of deploy/haproxy, between Pawl and clusters. Returns the URL of a database behind it. */
export async function startDatabaseProxy(
  t: Test,
  clusters: readonly Pick<Cluster, 'port'>[],
): Promise<(database: string) => string> {
  const port = await freePort()
  const example = readFileSync(join(root, 'deploy/haproxy/postgresql.cfg'), 'utf8')
  const servers = clusters.map((cluster, n) => `    server pg${n + 1} 127.0.0.1:${cluster.port}\n`)
  const text = example
    .replace(/^ *bind .*$/m, `    bind 127.0.0.1:${port}`)
    .replace(/(?:^ *server .*\n)+/m, servers.join(''))
  await startHaproxy(t, text, port)
  return (database) => `postgres://pawl@127.0.0.1:${port}/${database}`
}
