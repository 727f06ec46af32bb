import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  createReadStream,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { Test } from 'tap'
import { type BackupMade, type BackupOptions, makeBackup } from '../../src/backup/make.ts'
import { type Restored, type RestoreOptions, restoreBackup } from '../../src/backup/restore.ts'
import { type Config, loadConfig } from '../../src/config.ts'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { manifestDigest, parseManifest } from '../../src/domain/image.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { tokenFromRandom } from '../../src/domain/token.ts'
import { initPawl } from '../../src/init.ts'
import { settingsFile } from '../../src/pki/data-folder.ts'
import { findSecretFile } from '../../src/pki/key-file.ts'
import { type RunningServer, startServer } from '../../src/server.ts'
import { openStorage, type Storage } from '../../src/storage/database.ts'
import { insertImage } from '../../src/storage/images.ts'
import { demoProfile, newNode } from '../helpers/fleet.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'

/** Where a database is made for a test: SQLite's in the data folder, or a new one of PostgreSQL's. */
export type Place = (dataDir: string) => Promise<string>

/** Runs a suite on SQLite and on PostgreSQL, by location: what looks after a database opens it itself. */
export async function forEachPlace(t: Test, suite: (t: Test, place: Place) => Promise<void>): Promise<void> {
  await t.test('on SQLite', (t) => suite(t, sqlite))
  const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()
  await t.test('on PostgreSQL', absent === undefined ? {} : { skip: absent }, (t) => suite(t, postgres))
}

export const sqlite: Place = async (dataDir) => join(dataDir, 'pawl.db')
export const postgres: Place = async () => (await startPostgres()).createDatabase()

/** A folder that goes when the test ends. */
export function temporaryFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-backup-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** An installation with two images that have bytes, a profile and three nodes. */
export interface Installed {
  readonly dataDir: string
  readonly database: string
  readonly ca: string
  /** The enrolment secret of all three. */
  readonly secret: string
  /** The artifacts' digests. */
  readonly digests: readonly string[]
}

/** RSA keys take seconds: one CA serves every installation of a process. */
let prepared: Promise<string> | undefined

async function prepare(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-backup-ca-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  const database = join(folder, 'pawl.db')
  await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: new Date() })
  return dataDir
}

export async function install(t: Test, place: Place = sqlite): Promise<Installed> {
  prepared ??= prepare()
  const dataDir = join(temporaryFolder(t), 'data')
  cpSync(await prepared, dataDir, { recursive: true, mode: 0 })
  for (const folder of [dataDir, join(dataDir, 'pki')]) chmodSync(folder, 0o700)
  const database = await place(dataDir)
  await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: new Date() })
  const secret = tokenFromRandom(new Uint8Array(33).fill(9))
  const storage = await openStorage(database)
  const digests = ['small@1', 'full@1', 'full@2'].flatMap((ref) => bytesOf(dataDir, ref))
  const at = new Date().toISOString()
  await storage.transaction(async (tx) => {
    for (const ref of ['small@1', 'full@1', 'full@2']) await insertImage(tx, imageRow(ref, at))
    const document = JSON.stringify(writeProfile(parseProfile({ ...demoProfile, acceptUnsigned: true })))
    await tx
      .insertInto('profiles')
      .values({ name: 'demo', document, revision: 1, created_at: at, updated_at: at })
      .execute()
    for (const name of ['node1', 'node2', 'node3']) {
      await tx
        .insertInto('nodes')
        .values({ ...newNode(name, secret, at), id: `id-${name}` })
        .execute()
    }
  })
  await storage.close()
  mkdirSync(join(dataDir, 'ipxe-templates'), { mode: 0o700 })
  const held = readFileSync(new URL('../../ipxe-templates/held.ipxe', import.meta.url), 'utf8')
  writeFileSync(join(dataDir, 'ipxe-templates', 'held.ipxe'), held)
  return {
    dataDir,
    database,
    ca: readFileSync(join(dataDir, 'ca.crt'), 'utf8'),
    secret: secret.text,
    digests,
  }
}

const artifactRoles = ['kernel', 'initramfs', 'filesystem'] as const
const bodyOf = (ref: string, role: string): string => `${ref} ${role} `.repeat(1000)
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

function bytesOf(dataDir: string, ref: string): string[] {
  const folder = join(dataDir, 'artifacts', 'sha256')
  mkdirSync(folder, { recursive: true })
  return artifactRoles.map((role) => {
    const body = bodyOf(ref, role)
    writeFileSync(join(folder, sha256(body)), body)
    return sha256(body)
  })
}

function imageRow(ref: string, at: string) {
  const [name, version] = ref.split('@')
  const manifest = parseManifest({
    ...{ schema: 'pawl.image/v1', name, version, arch: 'x86_64', kernelArguments: 'console=ttyS0' },
    artifacts: artifactRoles.map((role) => {
      const body = bodyOf(ref, role)
      return { role, digest: sha256(body), size: body.length, mediaType: 'application/octet-stream' }
    }),
  })
  return {
    ...{ name: manifest.name, version: manifest.version, manifest: canonicalJson(manifest) },
    ...{ digest: manifestDigest(manifest), created_at: at, created_by: 'operator:test' },
  }
}

/** The settings of an installation, as the command line reads them. */
export function configOf(dataDir: string, flags: Record<string, string> = {}): Config {
  const all = { data: dataDir, bootListen: '127.0.0.1:0', operatorListen: '127.0.0.1:0', ...flags }
  const fileText = findSecretFile(settingsFile(dataDir))
  return loadConfig({ flags: all, env: {}, fileText, fileName: 'pawl.yaml' })
}

export async function serve(t: Test, dataDir: string, database: string): Promise<RunningServer> {
  const server = await startServer({
    config: configOf(dataDir, { database }),
    clock: () => new Date(),
    log: pino({ level: 'silent' }),
    hostName: 'localhost',
    processId: process.pid,
    templatesFolder: join(import.meta.dirname, '../../ipxe-templates'),
  })
  t.teardown(() => server.close().catch(() => {}))
  return server
}

export const portOf = (server: RunningServer): number => Number(new URL(server.ready.boot).port)

/** Nobody but this process is there. */
export const alone = { processId: process.pid, isAlive: (id: number) => id === process.pid }

export function backup(
  { dataDir, database }: Pick<Installed, 'dataDir' | 'database'>,
  to: BackupOptions['to'],
  wish: Partial<BackupOptions> = {},
): Promise<BackupMade> {
  const config = configOf(dataDir, { database })
  return makeBackup({ config, version: '0.2.0', now: new Date(), withArtifacts: true, to, ...alone, ...wish })
}

export function restore(
  file: string,
  dataDir: string,
  database: string,
  wish: Partial<RestoreOptions> = {},
): Promise<Restored> {
  return restoreBackup({
    from: createReadStream(file),
    dataDir,
    configOf: (fileText) =>
      loadConfig({ flags: { data: dataDir, database }, env: {}, fileText, fileName: 'pawl.yaml' }),
    now: new Date(),
    ...alone,
    isAlive: () => false,
    ...wish,
  })
}

export async function withStorage<T>(database: string, work: (storage: Storage) => Promise<T>): Promise<T> {
  const storage = await openStorage(database)
  try {
    return await work(storage)
  } finally {
    await storage.close()
  }
}
