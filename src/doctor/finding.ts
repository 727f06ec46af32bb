import type { Config } from '../config.ts'
import { isPawlError } from '../errors.ts'
import type { Storage } from '../storage/database.ts'

/** How one thing is. */
export interface Finding {
  readonly check: string
  readonly level: 'ok' | 'warn' | 'fail'
  /** What was found, in words. */
  readonly found: string
  /** What to do; left out where all is well. */
  readonly advice?: string
}

/** What is examined, and what is known before. */
export interface Subject {
  readonly dataDir: string
  readonly config: Config
  readonly now: Date
  readonly version: string
  readonly hostName: string
  readonly nodeVersion: string
  readonly templatesFolder: string
  /** Whether every artifact and every event is read. */
  readonly full: boolean
  readonly isAlive: (processId: number) => boolean
  /** The database as it is, for reading only; undefined where it cannot be opened. */
  readonly storage: Storage | undefined
  /** What the server wrote when it started last. */
  readonly announced: Announced | undefined
}

/** `DIR/server.json`. */
export interface Announced {
  readonly boot: string
  readonly operator: string
  readonly pid: number
  readonly version?: string
  /** The port of TFTP, where it is served. */
  readonly tftp?: number
}

/** One check: what it looks at has a name, and it answers in time or is cut off. */
export interface Check {
  readonly name: string
  readonly run: (subject: Subject) => Promise<Finding[]> | Finding[]
}

/** All is well. */
export function ok(check: string, found: string): Finding {
  return { check, level: 'ok', found }
}

/** It works, and somebody should look. */
export function warn(check: string, found: string, advice: string): Finding {
  return { check, level: 'warn', found, advice }
}

/** It does not work, or soon will not. */
export function fail(check: string, found: string, advice: string): Finding {
  return { check, level: 'fail', found, advice }
}

/** What was thrown, as a finding. */
export function failure(check: string, error: unknown): Finding {
  const message = error instanceof Error ? error.message : String(error)
  const hint = isPawlError(error) ? error.hint : undefined
  return { check, level: 'fail', found: message, ...(hint === undefined ? {} : { advice: hint }) }
}

/** `3 days`. */
export function days(milliseconds: number): string {
  const number = Math.floor(milliseconds / 86_400_000)
  return `${number} day${number === 1 ? '' : 's'}`
}
