import { randomBytes } from 'node:crypto'
import { linkSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { PawlError } from '../errors.ts'
import { createFile } from './key-file.ts'

/** Ten seconds. */
const usualTries = 200
const pauseMilliseconds = 50

/**
 * Runs `work` while no other process does so with the same folder: commands that read a file and write it anew would else undo
 * each other. The lock is a file with the holder's process id; one that a killed process left is taken over. Waits ten seconds,
 * then throws `conflict`. It blocks this process: it is for commands, never for the server.
 */
export function withFolderLock<T>(folder: string, work: () => T, tries = usualTries): T {
  const file = join(folder, '.lock')
  const own = `${process.pid} ${randomBytes(8).toString('hex')}\n`
  take(file, own, tries)
  try {
    return work()
  } finally {
    if (holderOf(file) === own) rmSync(file, { force: true })
  }
}

function take(file: string, own: string, tries: number): void {
  for (let n = 0; n < tries; n++) {
    if (createFile(file, own, 0o600)) return
    const holder = holderOf(file)
    if (holder !== undefined && !isAlive(holder)) takeAway(file, holder)
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMilliseconds)
  }
  throw new PawlError('conflict', `another command is at work in this folder: ${file}`, {
    hint: `try again when it is done; if none runs, remove ${file}`,
  })
}

/** Removes the lock of a dead process; where a live one has taken it meanwhile, that one gets it back. */
function takeAway(file: string, dead: string): void {
  const aside = `${file}.${randomBytes(8).toString('hex')}`
  try {
    renameSync(file, aside)
  } catch {
    return // another was first
  }
  if (holderOf(aside) !== dead) linkSync(aside, file)
  rmSync(aside, { force: true })
}

function holderOf(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

/** Whether a process of this machine has the id; one of another user is alive too (EPERM). */
function isAlive(holder: string): boolean {
  const id = Number(holder.split(' ')[0])
  if (!Number.isSafeInteger(id) || id <= 0) return false
  try {
    process.kill(id, 0)
    return true
  } catch (error) {
    return (error as { code?: unknown }).code === 'EPERM'
  }
}
