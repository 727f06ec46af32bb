import { join } from 'node:path'
import type { PlayedNode } from './boot.ts'
import { requestText } from './exchange.ts'
import { type LoadProcess, startLoad } from './load.ts'
import { times } from './measure.ts'
import { type MinimalSide, startBareHttps } from './minimal-side.ts'
import { type NginxSide, startNginx } from './nginx-side.ts'
import {
  cacheFlags,
  makeDataFolder,
  makeFleet,
  type PawlSide,
  removeDataFolder,
  startPawl,
} from './pawl-side.ts'

/** What most comparisons share: one Pawl with a fleet, one nginx and one bare node:https with the same certificates, one load process. */
export interface Lab {
  readonly pawl: PawlSide
  readonly nodes: readonly PlayedNode[]
  readonly nginx: NginxSide
  readonly bare: MinimalSide
  readonly load: LoadProcess
}

/** How many machines boot in a row that boots. */
const fleetSize = 300
/** About as large as the answer of stage 2. */
export const stageAnswerBytes = 8000

let opened: Promise<Lab> | undefined

/** The lab, opened by the first comparison that needs it. */
export function openLab(): Promise<Lab> {
  opened ??= open()
  return opened
}

async function open(): Promise<Lab> {
  const dataDir = await makeDataFolder()
  const pawl = await startPawl(dataDir, cacheFlags)
  const nodes = await makeFleet(pawl, times(fleetSize))
  const file = (name: string): string => join(dataDir, '..', name)
  const nginx = await startNginx({
    dataDir,
    files: { large: file('large'), larger: file('larger') },
    texts: { ok: 'ok', stage: 'x'.repeat(stageAnswerBytes) },
  })
  const bare = await startBareHttps(dataDir, stageAnswerBytes)
  const load = startLoad()
  // Code that runs for the first time is read and compiled: in a storm that is over with the first machines.
  for (const kind of ['rsa', 'ecdsa'] as const) {
    const wish = { port: pawl.bootPort, ca: pawl.ca, kind }
    await load.perform({ do: 'boots', wish, connections: 'new', concurrency: 16, nodes })
    const bareWish = { ...wish, port: bare.port }
    const requests = [requestText('GET', '/stage')]
    await load.perform({
      ...{ do: 'requests', wish: bareWish, connections: 'new', concurrency: 8, requests, count: times(600) },
    })
  }
  return { pawl, nodes, nginx, bare, load }
}

/** Ends everything that was opened. */
export async function closeLab(): Promise<void> {
  const lab = await opened
  if (lab === undefined) return
  lab.load.close()
  await Promise.all([lab.pawl.stop(), lab.nginx.stop(), lab.bare.stop()])
  removeDataFolder(lab.pawl.dataDir)
}
