import { spawn, spawnSync } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { openStorage } from '../../src/storage/database.ts'

/** A PostgreSQL cluster of this test process alone. */
export interface Postgres {
  /** Makes an empty database with the newest schema; returns its URL. */
  createDatabase(): Promise<string>
}

let running: Promise<Postgres> | undefined

/** Why PostgreSQL suites cannot run here; undefined where they can. With PAWL_REQUIRE=all its absence is a failure. */
export function postgresAbsent(): string | undefined {
  return binaries() === undefined ? 'PostgreSQL is not installed' : undefined
}

/** Starts a cluster in a temporary folder, once for the process. It ends with the process, however that ends. */
export function startPostgres(): Promise<Postgres> {
  running ??= start()
  return running
}

/** Debian keeps each version's programs in a folder of its own; the newest is taken. */
function binaries(): string | undefined {
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root) : []
  return versions
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(root, version, 'bin'))
    .find((folder) => existsSync(join(folder, 'initdb')))
}

/** PostgreSQL refuses to run as root: then it runs as `nobody`. */
function user(): { uid?: number; gid?: number } {
  return process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
}

async function start(): Promise<Postgres> {
  const bin = binaries()
  if (bin === undefined) throw new Error('PostgreSQL is not installed, and PAWL_REQUIRE=all wants it')
  const folder = mkdtempSync(join(tmpdir(), 'pawl-pg-'))
  const as = user()
  if (as.uid !== undefined) chownSync(folder, as.uid, as.gid ?? as.uid)
  const data = join(folder, 'data')
  const options = ['-D', data, '-U', 'pawl', '--auth=trust', '--no-sync', '--encoding=UTF8', '--locale=C']
  const made = spawnSync(join(bin, 'initdb'), options, { ...as, cwd: folder, encoding: 'utf8' })
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`)
  await serve(bin, folder, data)
  return cluster(folder)
}

/**
 * Runs the server under a shell that waits for its standard input to close, so that it stops, and its folder goes,
 * even when the test process is killed. Resolves when it accepts connections.
 */
function serve(bin: string, folder: string, data: string): Promise<void> {
  const script = '"$0" "$@" & pid=$!; cat > /dev/null; kill -INT $pid; wait $pid; cd /; rm -rf "$FOLDER"'
  const settings = ['listen_addresses=', 'fsync=off', 'full_page_writes=off', 'max_connections=300']
  const args = ['-D', data, '-k', folder, ...settings.flatMap((setting) => ['-c', setting])]
  const child = spawn('/bin/sh', ['-c', script, join(bin, 'postgres'), ...args], {
    ...user(),
    cwd: folder,
    env: { PATH: '/usr/bin:/bin', FOLDER: folder },
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  return new Promise((resolve, reject) => {
    let said = ''
    child.once('exit', () => reject(new Error(`PostgreSQL did not start: ${said}`)))
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (said.includes('ready to accept')) return
      said += text
      if (!said.includes('ready to accept')) return
      // Nothing here keeps the process alive: its end is what stops the server.
      child.unref()
      for (const stream of [child.stdin, child.stderr]) (stream as unknown as { unref(): void }).unref()
      resolve()
    })
  })
}

async function cluster(folder: string): Promise<Postgres> {
  const url = (database: string): string => `postgres://pawl@localhost/${database}?host=${folder}`
  const run = async (statement: string): Promise<void> => {
    const client = new pg.Client({ connectionString: url('postgres') })
    await client.connect()
    await client.query(statement)
    await client.end()
  }
  await run('create database pawl_template')
  await (await openStorage(url('pawl_template'))).close()
  let made = 0
  return {
    async createDatabase() {
      made += 1
      const name = `world_${made}`
      await run(`create database ${name} template pawl_template`)
      return url(name)
    },
  }
}
