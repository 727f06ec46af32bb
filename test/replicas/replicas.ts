import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, chmodSync, cpSync, readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import type { Test } from 'tap'
import { tokenFromRandom } from '../../src/domain/token.ts'
import { type Installed, install, temporaryFolder, withStorage } from '../backup/helpers.ts'
import { newNode } from '../helpers/fleet.ts'
import { startHaproxy } from '../helpers/haproxy.ts'
import { freePort } from '../helpers/ports.ts'
import { type Cluster, startCluster } from '../helpers/postgres-cluster.ts'
import { root } from '../helpers/release.ts'

/** A `pawl server` process of its own, on a copy of the data folder. */
export interface Replica {
  readonly name: string
  readonly dataDir: string
  readonly bootPort: number
  readonly operatorPort: number
  readonly child: () => ChildProcess
  /** Starts it, or starts it again; of another release where its folder is given. */
  start(release?: string): Promise<void>
  /** The log so far. */
  readonly log: () => string
  /** The status of a path of its operator listener; 0 where nobody answers. */
  ask(path: string): Promise<number>
}

/** What differs from three of them on a cluster of its own. */
export interface SiteOptions {
  readonly nodes?: number
  /** More lines of `pawl.yaml`. */
  readonly settings?: string
  readonly cluster?: Cluster
  /** For each of them the URL of its database. */
  readonly databases?: readonly string[]
}

/** Three of them behind HAProxy, on a cluster of PostgreSQL. */
export interface Site {
  readonly cluster: Cluster
  readonly installed: Installed
  readonly replicas: readonly Replica[]
  readonly port: number
  readonly hosts: readonly string[]
}

/** Makes the installation and its copies; starts nothing but PostgreSQL. */
export async function openSite(
  t: Test,
  { nodes = 10, settings = '', databases, ...given }: SiteOptions = {},
): Promise<Site> {
  const cluster = given.cluster ?? (await startCluster(t))
  const installed = await install(t, () => cluster.create('pawl'))
  const hosts = Array.from({ length: nodes }, (_, n) => `replica-node${n}`)
  const at = new Date().toISOString()
  const secret = tokenFromRandom(new Uint8Array(33).fill(9))
  await withStorage(installed.database, (storage) =>
    storage.transaction(async (tx) => {
      await tx
        .insertInto('nodes')
        .values(hosts.map((name) => ({ ...newNode(name, secret, at), id: `id-${name}` })))
        .execute()
    }),
  )
  const port = await freePort()
  const artifacts = join(installed.dataDir, 'artifacts')
  writeFileSync(
    join(installed.dataDir, 'pawl.yaml'),
    `publicUrl: https://127.0.0.1:${port}
artifacts: ${artifacts}
maxStage1PerHour: 3600
loopStage1s: 0
drainSeconds: 6
shutdownGraceSeconds: 10
${settings}`,
    { mode: 0o600 },
  )
  const replicas: Replica[] = []
  const { database } = installed
  for (const [n, own] of (databases ?? [database, database, database]).entries())
    replicas.push(await prepare(t, installed.dataDir, String.fromCharCode(97 + n), own))
  return { cluster, installed, replicas, port, hosts }
}

async function prepare(t: Test, from: string, name: string, database: string): Promise<Replica> {
  const dataDir = join(temporaryFolder(t), name)
  cpSync(from, dataDir, { recursive: true, mode: 0 })
  for (const folder of [dataDir, join(dataDir, 'pki')]) chmodSync(folder, 0o700)
  appendFileSync(join(dataDir, 'pawl.yaml'), `database: ${database}\n`)
  const [bootPort, operatorPort] = [await freePort(), await freePort()]
  const listen = ['--boot-listen', `127.0.0.1:${bootPort}`, '--operator-listen', `127.0.0.1:${operatorPort}`]
  let child: ChildProcess | undefined
  let log = ''
  t.teardown(() => child?.kill('SIGKILL'))
  const ca = readFileSync(join(from, 'ca.crt'), 'utf8')
  return {
    name,
    dataDir,
    bootPort,
    operatorPort,
    child: () => child as ChildProcess, // it was started
    log: () => log,
    async start(release = root) {
      const started = spawn(join(release, 'bin/pawl'), ['server', '--data', dataDir, ...listen], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      child = started
      started.stderr.setEncoding('utf8').on('data', (text: string) => {
        log += text
      })
      const ended = once(started, 'exit').then(() => Promise.reject(new Error(`${name} ended: ${log}`)))
      ended.catch(() => {})
      await Promise.race([once(started.stdout, 'data'), ended])
    },
    ask: (path) =>
      new Promise((resolve) => {
        const asking = request({
          host: '127.0.0.1',
          port: operatorPort,
          path,
          ca,
          agent: false,
          timeout: 60_000,
        })
        asking.once('response', (response) => {
          response.resume()
          resolve(response.statusCode ?? 0)
        })
        asking.once('error', () => resolve(0)).once('timeout', () => asking.destroy())
        asking.end()
      }),
  }
}

/** A real HAProxy in front, by the example of deploy/haproxy with our addresses in it. */
export async function startBalancer(t: Test, { port, replicas }: Site): Promise<void> {
  const example = readFileSync(join(root, 'deploy/haproxy/haproxy.cfg'), 'utf8')
  const servers = replicas.map(
    ({ name, bootPort, operatorPort }) => `    server ${name} 127.0.0.1:${bootPort} port ${operatorPort}\n`,
  )
  const text = example
    .replace('maxconn 20000', 'maxconn 1000') // as many files may be open wherever tests run
    .replace(/^ *bind .*$/m, `    bind 127.0.0.1:${port}`)
    .replace(/(?:^ *server .*\n)+/m, servers.join(''))
  await startHaproxy(t, text, port)
}

/** Whose connection holds the lock of the leader: the process id of one of PostgreSQL's own. */
export async function leaderBackend({ cluster }: Site): Promise<number | undefined> {
  const rows = await cluster.query(
    "select l.pid from pg_locks l join pg_stat_activity a using (pid) where locktype = 'advisory' and a.application_name = 'pawl_leader' and granted",
    'pawl',
  )
  return rows[0]?.pid as number | undefined
}
