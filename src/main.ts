import { createReadStream, rmSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import closeWithGrace from 'close-with-grace'
import manifest from '../package.json' with { type: 'json' }
import type { Io, LocalCommands, SettingFlags } from './cli/io.ts'
import { runCli } from './cli/main.ts'
import { type Config, dataDirOf, loadConfig } from './config.ts'
import { createLog } from './log.ts'
import { checkDataFolder, settingsFile } from './pki/data-folder.ts'
import { findSecretFile } from './pki/key-file.ts'

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
    const config = configOf(flags, undefined)
    return initPawl({ ...config, now: io.now() })
  },

  async server(flags) {
    const { startServer } = await import('./server.ts')
    const config = configOnDisk(flags)
    const log = createLog(config.logLevel)
    const server = await startServer({
      config,
      clock: io.now,
      log,
      hostName: hostname(),
      processId: process.pid,
      templatesFolder,
    })
    process.stdout.write(`${JSON.stringify(server.ready)}\n`)
    await stopped(server.close, config, log)
  },

  async backup(file, flags) {
    const { makeBackup } = await import('./backup/make.ts')
    const to = file === '-' ? process.stdout : file
    return makeBackup({
      ...upkeep(),
      config: configOnDisk(flags),
      withArtifacts: !flags.withoutArtifacts,
      to,
    })
  },

  async restore(file, flags) {
    const { restoreBackup } = await import('./backup/restore.ts')
    const from = file === '-' ? process.stdin : createReadStream(file)
    const dataDir = dataDirOf({ flags, env: io.env })
    return restoreBackup({ ...upkeep(), from, dataDir, configOf: (text) => configOf(flags, text) })
  },

  async downgrade(flags) {
    const { downgrade } = await import('./backup/downgrade.ts')
    const release = String(flags.to)
    return downgrade({ ...upkeep(), config: configOnDisk(flags), release, apply: flags.yes === true })
  },

  async doctor(flags) {
    const { examine } = await import('./doctor/examine.ts')
    const dataDir = dataDirOf({ flags, env: io.env })
    return examine({
      ...upkeep(),
      dataDir,
      configOf: (text) => configOf(flags, text),
      full: flags.full === true,
      hostName: hostname(),
      nodeVersion: process.versions.node,
      templatesFolder,
    })
  },
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

/** The settings of a data folder that is there. */
function configOnDisk(flags: SettingFlags): Config {
  const dataDir = dataDirOf({ flags, env: io.env })
  checkDataFolder(dataDir)
  return configOf(flags, findSecretFile(settingsFile(dataDir)))
}

function configOf(flags: SettingFlags, fileText: string | undefined): Config {
  return loadConfig({
    flags,
    env: io.env,
    fileText,
    fileName: settingsFile(dataDirOf({ flags, env: io.env })),
  })
}

/** Resolves when a signal has come and the server has closed. An error that nobody caught ends the process too, by name. */
function stopped(
  close: () => Promise<void>,
  config: Config,
  log: ReturnType<typeof createLog>,
): Promise<void> {
  return new Promise((resolve) => {
    closeWithGrace(
      { delay: (config.shutdownGraceSeconds + 5) * 1000, logger: false },
      async ({ signal, err }) => {
        if (err !== undefined) log.fatal({ err }, 'stopping after an error')
        else log.info({ signal }, 'stopping')
        await close()
        resolve()
      },
    )
  })
}

process.exitCode = await runCli(io, local)
