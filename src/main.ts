import { rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import manifest from '../package.json' with { type: 'json' }
import type { Io, LocalCommands, SettingFlags } from './cli/io.ts'
import { runCli } from './cli/main.ts'
import type { Config } from './config.ts'
import { PawlError } from './errors.ts'
import type { createLog } from './log.ts'

/**
 * The entry: reads the process and the clock, and hands them over. Nothing else in Pawl does. The server's parts are
 * loaded only where they run, so that a client command starts in a third of the time.
 */
const io: Io = {
  argv: process.argv.slice(2),
  env: process.env,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  now: () => new Date(),
  isTTY: { stdout: process.stdout.isTTY === true, stderr: process.stderr.isTTY === true },
  columns: process.stdout.columns,
  // A terminal that does not know its size says 0.
  size: () => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 }),
  onInterrupt: (listener) => {
    const signals = ['SIGINT', 'SIGTERM'] as const
    for (const signal of signals) process.once(signal, listener)
    return () => {
      for (const signal of signals) process.off(signal, listener)
    }
  },
}

const templatesFolder = join(import.meta.dirname, '..', 'ipxe-templates')

const local: LocalCommands = {
  recipesFolder: join(import.meta.dirname, '..', 'images'),

  async scratch() {
    const { startScratch } = await import('./scratch.ts')
    // By itself a signal ends the process without 'exit', and with it nothing that cleans up.
    process.once('SIGHUP', () => process.exit(129))
    process.once('SIGINT', () => process.exit(130))
    process.once('SIGTERM', () => process.exit(143))
    const scratch = await startScratch({ clock: io.now, processId: process.pid, templatesFolder })
    process.once('exit', () => rmSync(scratch.folder, { recursive: true, force: true }))
    return scratch
  },

  async init(flags) {
    const { initPawl } = await import('./init.ts')
    const config = (await openSettings(flags)).configOf(undefined)
    return initPawl({ ...config, now: io.now() })
  },

  async server(flags) {
    const { startServer } = await import('./server.ts')
    const { createLog } = await import('./log.ts')
    const config = (await openSettings(flags)).onDisk()
    const log = createLog(config.logLevel)
    const { default: closeWithGrace } = await import('close-with-grace')
    const server = await startServer({
      config,
      clock: io.now,
      log,
      hostName: hostname(),
      processId: process.pid,
      templatesFolder,
    })
    // Before the ready line: a signal right behind it must be heard.
    const end = stopped(closeWithGrace, server.close, config, log)
    process.stdout.write(`${JSON.stringify(server.ready)}\n`)
    await end
  },

  async backup(file, flags) {
    const { makeBackup } = await import('./backup/make.ts')
    const to = file === '-' ? process.stdout : file
    return makeBackup({
      ...upkeep(),
      config: (await openSettings(flags)).onDisk(),
      withArtifacts: !flags.withoutArtifacts,
      to,
    })
  },

  async restore(file, flags) {
    const { restoreBackup } = await import('./backup/restore.ts')
    const from = file === '-' ? process.stdin : await openFile(file)
    const { dataDir, configOf } = await openSettings(flags)
    return restoreBackup({ ...upkeep(), from, dataDir, configOf })
  },

  async downgrade(flags) {
    const { downgrade } = await import('./backup/downgrade.ts')
    const release = String(flags.to)
    return downgrade({
      ...upkeep(),
      config: (await openSettings(flags)).onDisk(),
      release,
      apply: flags.yes === true,
    })
  },

  async moveDatabase(flags) {
    const { moveDatabase } = await import('./move-database.ts')
    const config = (await openSettings(flags)).onDisk()
    return moveDatabase({ config, to: String(flags.to), now: io.now() })
  },

  async rotateRoot(flags) {
    const { rotateRoot } = await import('./root-rotation.ts')
    return rotateRoot({ config: (await openSettings(flags)).onDisk(), now: io.now() })
  },

  async cutOverRoot(flags) {
    const { cutOverRoot } = await import('./root-rotation.ts')
    return cutOverRoot({
      config: (await openSettings(flags)).onDisk(),
      now: io.now(),
      days: Number(flags.days),
      force: flags.force === true,
      apply: flags.yes === true,
    })
  },

  async doctorBoot(flags) {
    const { examineBoot } = await import('./doctor/boot.ts')
    const named = typeof flags.url === 'string' ? flags.url : undefined
    const settings = named === undefined ? await openSettings(flags) : undefined
    return examineBoot({
      url: named,
      need: Array.isArray(flags.need) ? flags.need : [],
      proxyProtocol: flags.proxyProtocol === true,
      now: io.now(),
      dataDir: settings?.dataDir,
      config: settings?.onDisk(),
    })
  },

  async doctor(flags) {
    const { examine } = await import('./doctor/examine.ts')
    const { dataDir, configOf } = await openSettings(flags)
    return examine({
      ...upkeep(),
      dataDir,
      configOf,
      full: flags.full === true,
      hostName: hostname(),
      nodeVersion: process.versions.node,
      templatesFolder,
    })
  },
}

async function openFile(file: string): Promise<Readable> {
  const handle = await open(file).catch((cause: { code?: unknown }) => {
    const fault = cause.code === 'ENOENT' ? 'is not there' : `cannot be read (${String(cause.code)})`
    throw new PawlError('not-found', `${file} ${fault}`, { cause })
  })
  return handle.createReadStream()
}

/** What work on a data folder takes from the process. */
function upkeep() {
  return { version: manifest.version, now: io.now(), processId: process.pid, isAlive }
}

function isAlive(processId: number): boolean {
  try {
    return process.kill(processId, 0)
  } catch (error) {
    return (error as { code?: unknown }).code === 'EPERM' // another user's
  }
}

/** How the settings of this process are read: with a settings file's text, or as the data folder has them. */
interface Settings {
  readonly dataDir: string
  readonly configOf: (fileText: string | undefined) => Config
  readonly onDisk: () => Config
}

async function openSettings(flags: SettingFlags): Promise<Settings> {
  const { dataDirOf, loadConfig } = await import('./config.ts')
  const { checkDataFolder, settingsFile } = await import('./pki/data-folder.ts')
  const { findSecretFile } = await import('./pki/key-file.ts')
  const { env } = io
  const dataDir = dataDirOf({ flags, env })
  const fileName = settingsFile(dataDir)
  const configOf = (fileText: string | undefined): Config => loadConfig({ flags, env, fileText, fileName })
  const onDisk = (): Config => {
    checkDataFolder(dataDir)
    return configOf(findSecretFile(fileName))
  }
  return { dataDir, configOf, onDisk }
}

/** Resolves when a signal has come and the server has closed. An error that nobody caught ends the process too, by name. */
function stopped(
  closeWithGrace: typeof import('close-with-grace'),
  close: () => Promise<void>,
  config: Config,
  log: ReturnType<typeof createLog>,
): Promise<void> {
  return new Promise((resolve) => {
    closeWithGrace(
      { delay: (config.drainSeconds + config.shutdownGraceSeconds + 5) * 1000, logger: false },
      async ({ signal, err }) => {
        if (err !== undefined) log.fatal({ err }, 'stopping after an error')
        else log.info({ signal }, 'stopping')
        await close()
        resolve()
      },
    )
  })
}

/** A worker of `pawl server`: node:cluster has started it, with a channel to its keeper. */
async function serveAsWorker(): Promise<void> {
  const { runWorker } = await import('./open-worker.ts')
  // A terminal and systemd signal the whole group: the keeper hears it too, and says what is to be done.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
  runWorker({
    pipe: {
      send: (message, done) => {
        if (process.send === undefined || !process.connected) done()
        else process.send(message, undefined, undefined, () => done())
      },
      onMessage: (listener) => void process.on('message', listener),
    },
    clock: io.now,
    now: () => performance.now(),
    exit: (code) => process.exit(code),
    onFault: (listener) => {
      process.on('uncaughtException', listener)
      process.on('unhandledRejection', listener)
    },
  })
}

if (process.env.PAWL_WORKER !== undefined && process.send !== undefined) await serveAsWorker()
else process.exitCode = await runCli(io, local)
