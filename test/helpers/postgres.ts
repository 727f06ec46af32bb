import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
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
  const prepared = await preparedData(bin)
  const folder = newFolder()
  copy(prepared, join(folder, 'data'))
  await serve(bin, folder, join(folder, 'data'))
  return cluster(folder)
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-pg-'))
  const { uid, gid } = user()
  if (uid !== undefined && gid !== undefined) chownSync(folder, uid, gid)
  return folder
}

/** With owners and modes, on which PostgreSQL insists. */
function copy(from: string, to: string): void {
  const done = spawnSync('cp', ['-a', from, to], { encoding: 'utf8' })
  if (done.status !== 0) throw new Error(`cp failed: ${done.stderr}`)
}

/**
 * The data folder of a cluster with the newest schema in its database `pawl_template`. Made once and kept outside git: a copy
 * costs a tenth of what making it does, and every file of tests wants one.
 */
async function preparedData(bin: string): Promise<string> {
  const kept = fileURLToPath(new URL('../../node_modules/.cache/', import.meta.url))
  const prepared = join(kept, `postgres-${schemaKey(bin)}`)
  if (existsSync(prepared)) return prepared
  const place = newFolder()
  const data = join(place, 'data')
  makeData(bin, place, data)
  const sockets = newFolder()
  const stop = await serve(bin, sockets, data)
  await execute(sockets, 'create database pawl_template')
  await (await openStorage(urlOf(sockets, 'pawl_template'))).close()
  await stop()
  mkdirSync(kept, { recursive: true })
  // Of another schema. One of this schema may be there meanwhile, and be copied just now.
  for (const old of readdirSync(kept).filter((name) => name.startsWith('postgres-')))
    if (join(kept, old) !== prepared) rmSync(join(kept, old), { recursive: true, force: true })
  const beside = mkdtempSync(join(kept, '.postgres-'))
  copy(data, join(beside, 'data'))
  rmSync(place, { recursive: true })
  try {
    renameSync(join(beside, 'data'), prepared)
  } catch (error) {
    if (!existsSync(prepared)) throw error // another file of tests was first: its is the same
  }
  rmSync(beside, { recursive: true })
  return prepared
}

function makeData(bin: string, cwd: string, data: string): void {
  const options = ['-D', data, '-U', 'pawl', '--auth=trust', '--no-sync', '--encoding=UTF8', '--locale=C']
  const made = spawnSync(join(bin, 'initdb'), options, { ...user(), cwd, encoding: 'utf8' })
  if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`)
}

/** Changes with the schema and with the version of PostgreSQL. */
function schemaKey(bin: string): string {
  const hash = createHash('sha256').update(bin)
  const storage = fileURLToPath(new URL('../../src/storage/', import.meta.url))
  const names = readdirSync(storage, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  )
  for (const name of names.sort()) hash.update(name).update(readFileSync(join(storage, name)))
  return hash.digest('hex').slice(0, 16)
}

/**
 * Runs the server under a shell that waits for its standard input to close, so that it stops, and the folder of its sockets
 * goes, even when the test process is killed. Resolves when it accepts connections, to what stops it.
 */
function serve(bin: string, folder: string, data: string): Promise<() => Promise<unknown>> {
  const script = '"$0" "$@" & pid=$!; cat > /dev/null; kill -INT $pid; wait $pid; cd /; rm -rf "$FOLDER"'
  const settings = ['listen_addresses=', 'fsync=off', 'full_page_writes=off', 'max_connections=300']
  const args = ['-D', data, '-k', folder, ...settings.flatMap((setting) => ['-c', setting])]
  const child = spawn('/bin/sh', ['-c', script, join(bin, 'postgres'), ...args], {
    ...user(),
    cwd: folder,
    env: { PATH: '/usr/bin:/bin', FOLDER: folder },
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  const stop = (): Promise<unknown> => {
    child.ref()
    child.stdin.end()
    return ended
  }
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
      resolve(stop)
    })
  })
}

function urlOf(folder: string, database: string): string {
  return `postgres://pawl@localhost/${database}?host=${folder}`
}

async function execute(folder: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: urlOf(folder, 'postgres') })
  await client.connect()
  await client.query(statement)
  await client.end()
}

function cluster(folder: string): Postgres {
  let made = 0
  return {
    async createDatabase() {
      made += 1
      const name = `world_${made}`
      await execute(folder, `create database ${name} template pawl_template`)
      return urlOf(folder, name)
    },
  }
}
