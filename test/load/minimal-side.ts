import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A minimal server in a process of its own. */
export interface MinimalSide {
  readonly pid: number
  readonly port: number
  stop(): Promise<void>
}

/** Starts one that has these documents, by name. */
export async function startMinimal(
  dataDir: string,
  documents: Readonly<Record<string, unknown>>,
): Promise<MinimalSide> {
  const file = join(dataDir, '..', 'documents.json')
  writeFileSync(file, JSON.stringify(documents))
  return startScript('minimal-api.ts', [dataDir, file])
}

/** Starts bare node:https with the certificates of a data folder, and a text of so many bytes. */
export async function startBareHttps(dataDir: string, stageBytes: number): Promise<MinimalSide> {
  return startScript('https-bare.ts', [dataDir, String(stageBytes)])
}

/** A script of this folder that says on stdout which port it has. */
async function startScript(name: string, args: readonly string[]): Promise<MinimalSide> {
  const child: ChildProcess = spawn(process.execPath, [join(import.meta.dirname, name), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (child.stdout === null) throw new Error('its stdout is a pipe')
  const [line] = await once(child.stdout, 'data')
  const { port } = JSON.parse(String(line)) as { port: number }
  return {
    pid: child.pid ?? 0,
    port,
    stop: async () => {
      const ended = once(child, 'close')
      child.kill('SIGTERM')
      await ended
    },
  }
}
