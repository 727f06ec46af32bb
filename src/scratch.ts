import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadConfig } from './config.ts'
import type { Clock } from './domain/clock.ts'
import { initPawl } from './init.ts'
import { createLog } from './log.ts'
import { settingsFile } from './pki/data-folder.ts'
import { startServer } from './server.ts'

/** A whole Pawl of its own in a temporary folder, on loopback, for as long as something is tried on it. */
export interface ScratchServer {
  readonly dataDir: string
  /** All there is of it. */
  readonly folder: string
  readonly close: () => Promise<void>
}

/** What it takes from the process. */
export interface ScratchOptions {
  readonly clock: Clock
  readonly processId: number
  readonly templatesFolder: string
}

/** Where an emulated machine finds this machine's loopback (QEMU's user network). */
const loopbackFromInside = '10.0.2.2'

/** Starts one. `close` stops it and removes all of it. */
export async function startScratch(options: ScratchOptions): Promise<ScratchServer> {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-scratch-'))
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true })
  try {
    const dataDir = join(folder, 'data')
    const port = await freePort()
    const flags = {
      data: dataDir,
      bootListen: `127.0.0.1:${port}`,
      operatorListen: '127.0.0.1:0',
      publicUrl: `https://${loopbackFromInside}:${port}`,
    }
    const config = loadConfig({ flags, env: {}, fileText: undefined, fileName: settingsFile(dataDir) })
    await initPawl({ ...config, now: options.clock() })
    const { clock, processId, templatesFolder } = options
    const log = createLog('fatal')
    const server = await startServer({
      config,
      clock,
      log,
      hostName: 'localhost',
      processId,
      templatesFolder,
    })
    const close = async (): Promise<void> => {
      await server.close()
      await remove()
    }
    return { dataDir, folder, close }
  } catch (error) {
    await remove()
    throw error
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
