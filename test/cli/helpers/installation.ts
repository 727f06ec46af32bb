import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import pino from 'pino'
import type { Test } from 'tap'
import type { Io, LocalCommands } from '../../../src/cli/io.ts'
import { runCli } from '../../../src/cli/main.ts'
import { examineBoot } from '../../../src/doctor/boot.ts'
import { createOperator } from '../../../src/fleet/operators.ts'
import { buildOperatorListener, type OperatorListenerOptions } from '../../../src/http/operator-listener.ts'
import { openArtifactStore } from '../../../src/images/artifacts.ts'
import { openAuthority } from '../../../src/pki/authority.ts'
import { openCheckpointSigner } from '../../../src/pki/checkpoint-key.ts'
import { openClientAuthority } from '../../../src/pki/client-authority.ts'
import { initData } from '../../../src/pki/data-folder.ts'
import { loadTls } from '../../../src/pki/tls.ts'
import { storeTestPublisher } from '../../helpers/fleet.ts'
import { testIssuer, testPublisher } from '../../helpers/signing.ts'
import { type OpenWorld, type World, worldBegins } from '../../helpers/world.ts'

/** How a command is run. */
export interface RunOptions {
  readonly stdin?: string
  readonly env?: Readonly<Record<string, string>>
  /** The width of the terminal that both outputs are; none for a pipe. */
  readonly terminal?: number | undefined
  /** Runs instead of waiting. */
  readonly wait?: (milliseconds: number) => Promise<void>
}

/** What a command did. */
export interface Ran {
  readonly exit: number
  readonly stdout: string
  readonly stderr: string
}

/** A Pawl with a real operator listener on a data folder, and the command line to speak to it. */
export interface Installation {
  readonly world: World
  readonly dataDir: string
  readonly url: string
  readonly token: string
  run(argv: readonly string[], options?: RunOptions): Promise<Ran>
  stop(): Promise<void>
  /** Ends the listener and starts another, on another port. */
  restart(): Promise<void>
}

/** A folder that goes when the test ends. */
export function temporaryFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-cli-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** RSA keys take a second to make: one CA, and one certificate of its, serve all installations of a process. */
let preparing: Promise<{ folder: string; tls: Record<string, unknown> }> | undefined

/** A data folder with a CA, and what a listener of its needs for TLS. */
export function prepared(): Promise<{ folder: string; tls: Record<string, unknown> }> {
  preparing ??= prepare()
  return preparing
}

async function prepare(): Promise<{ folder: string; tls: Record<string, unknown> }> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-cli-ca-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const now = new Date() // TLS looks at the real clock
  const dataDir = join(folder, 'data')
  await initData({ dataDir, publicUrl: undefined, names: [], now })
  const tls = await loadTls(openAuthority(dataDir), {
    kind: 'operator',
    names: ['127.0.0.1', 'localhost'],
    now,
  })
  const { key, certificates } = await testPublisher()
  writeFileSync(join(dataDir, 'publisher.key'), key, { mode: 0o600 })
  writeFileSync(join(dataDir, 'publisher.crt'), certificates)
  return { folder: dataDir, tls: { ...tls.options() } }
}

/** Makes a data folder, starts the operator listener on it, and writes down where it is as the server does. */
export async function openInstallation(
  t: Test,
  openWorld: OpenWorld,
  listener: Partial<OperatorListenerOptions> = {},
): Promise<Installation> {
  const { folder, tls } = await prepared()
  const world = await openWorld({ verify: false })
  const dataDir = join(temporaryFolder(t), 'data')
  cpSync(folder, dataDir, { recursive: true, mode: 0 })
  chmodSync(dataDir, 0o700)
  // One CA for all is quick; the key of checkpoints tells installations apart.
  rmSync(join(dataDir, 'pki', 'checkpoint.key'))
  await storeTestPublisher(world, 'local')
  const token = await createOperator(world.context, { name: 'admin', role: 'admin', expiresAt: null })
  writeFileSync(join(dataDir, 'admin.token'), `${token}\n`, { mode: 0o600 })
  // The CLI compares the installation that a checkpoint names with the root it trusts.
  const rootCertificate = (): string => readFileSync(join(folder, 'ca.crt'), 'utf8')
  const store = await openArtifactStore(join(dataDir, 'artifacts'))
  const start = async (): Promise<{ app: FastifyInstance; url: string }> => {
    const app = buildOperatorListener(
      { ...world.context, rootCertificate, entry: { ...world.context.entry, ca: rootCertificate() } },
      {
        tls,
        log: pino({ level: 'silent' }),
        artifacts: store,
        issueCodeSigning: testIssuer,
        metrics: { answer: async () => ({ type: 'text/plain', body: '' }) },
        issueNodeCertificate: openClientAuthority(folder, 'node').issue,
        checkpoints: openCheckpointSigner(dataDir),
        ...listener,
        limits: {
          maxBodyBytes: 1024 * 1024,
          requestTimeoutSeconds: 15,
          uploadTimeoutSeconds: 60,
          idleTimeoutSeconds: 15,
          maxConnections: 100,
        },
      },
    )
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = (app.server as unknown as Server).address() as AddressInfo
    const url = `https://127.0.0.1:${port}`
    writeFileSync(join(dataDir, 'server.json'), JSON.stringify({ operator: url, pid: 1 }), { mode: 0o600 })
    return { app, url }
  }
  let { app, url } = await start()
  t.teardown(() => app.close())
  return {
    world,
    dataDir,
    url,
    token,
    run: (argv, options = {}) =>
      run(argv, { ...options, env: { PAWL_DATA: dataDir, ...options.env } }, world.clock.now),
    stop: () => app.close(),
    async restart() {
      await app.close()
      ;({ app, url } = await start())
    },
  }
}

/** Init and server are main's: here they only show what they were told. */
export const local: LocalCommands = {
  recipesFolder: join(import.meta.dirname, '../../../images'),
  scratch: () => Promise.reject(new Error('test/boot tries this')),
  backup: () => Promise.reject(new Error('test/backup tries this')),
  restore: () => Promise.reject(new Error('test/backup tries this')),
  moveDatabase: () => Promise.reject(new Error('test/replicas tries this')),
  downgrade: () => Promise.reject(new Error('test/backup tries this')),
  doctor: () => Promise.reject(new Error('test/doctor tries this')),
  doctorBoot: ({ url, need, proxyProtocol }, io) =>
    examineBoot({
      url: String(url),
      need: Array.isArray(need) ? need : [],
      proxyProtocol: proxyProtocol === true,
      now: io.now(),
    }),
  rotateRoot: async ({ data }) => ({
    from: 'aa'.repeat(32),
    to: 'bb'.repeat(32),
    ca: `${String(data)}/pki/next/ca.crt`,
    created: ['pki/next/root.key', 'pki/next/ca.crt', 'pki/next/issuing.key', 'pki/next/issuing.crt'],
  }),
  cutOverRoot: async ({ yes, days }) => ({
    applied: yes === true,
    from: 'aa'.repeat(32),
    to: 'bb'.repeat(32),
    days: Number(days),
    users: [],
    stranded: [{ node: 'mlab9', lastAt: '2026-08-01T10:00:00.000Z', source: '192.0.2.9', otherAt: null }],
    moved: 41,
    retired: yes === true ? 'DIR/pki/retired/aaaaaaaaaaaaaaaa' : null,
  }),
  async init(flags) {
    const dir = String(flags.data)
    return { ca: `${dir}/ca.crt`, adminToken: `${dir}/admin.token`, created: [JSON.stringify(flags)] }
  },
  async server(flags, io) {
    io.stdout.write(`${JSON.stringify(flags)}\n`)
  },
}

/** Runs a command line in this process. */
export async function run(
  argv: readonly string[],
  { stdin = '', env = {}, terminal, wait }: RunOptions = {},
  now: () => Date = () => worldBegins,
): Promise<Ran> {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const isTTY = terminal !== undefined
  const io: Io = {
    argv,
    env,
    stdin: Readable.from(stdin === '' ? [] : [Buffer.from(stdin, 'latin1')]),
    stdout,
    stderr,
    now,
    isTTY: { stdout: isTTY, stderr: isTTY },
    columns: terminal,
    ...(wait === undefined ? {} : { wait }),
  }
  const exit = await runCli(io, local)
  return { exit, stdout: textOf(stdout), stderr: textOf(stderr) }
}

function textOf(stream: PassThrough): string {
  stream.end()
  return String(stream.read() ?? '')
}
