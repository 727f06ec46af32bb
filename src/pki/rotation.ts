/**
 * A root is rotated in three steps, and machines that know only the old one boot all the time:
 *
 *     rotate      makes another CA, in DIR/pki/next: nothing is served by it yet
 *     (settings)  publicUrl and bootListen become the new CA's, oldPublicUrl and oldBootListen what they were:
 *                 one chain cannot serve two fingerprints, so each root has a listener of its own
 *     cut-over    puts the new CA in the place of the old, whose files go to DIR/pki/retired/LABEL
 *
 * A cut-over moves several files. What it does is written down first (`pki/cut-over.json`), each step can be done again, and
 * nothing opens a CA while that file is there: killed anywhere, the next start goes on. The operator listener stays under the
 * old CA until then, so that no client of the API loses it before its people had the new root.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { PawlError } from '../errors.ts'
import { createAuthority, openAuthority } from './authority.ts'
import {
  createFile,
  findPublicFile,
  findSecretFile,
  removeTemporaries,
  syncFolder,
  writeFileDurably,
} from './key-file.ts'
import { authorityFiles, cutOverFile, hasNext, retiredFolder } from './places.ts'
import { rootFingerprint } from './x509.ts'

/** What belongs to one CA: the root first, since it says which one it is. */
const parts = [
  'ca.crt',
  'root.key',
  'issuing.key',
  'issuing.crt',
  'boot.pem',
  'boot-ecdsa.pem',
  'operator.pem',
] as const
type Part = (typeof parts)[number]

/** How far a cut-over is: copying the old CA away, or putting the new one in its place. */
interface Journal {
  readonly step: 'retire' | 'replace'
  /** The old root's label: the name of the folder its files go to. */
  readonly label: string
  /** What the new CA has of `parts`: the rest of the old one's is removed. */
  readonly has: readonly Part[]
}

/** Whether one was begun, and is not whole. */
export function hasHalfNext(dataDir: string): boolean {
  return existsSync(authorityFiles(dataDir, 'next').folder) && !hasNext(dataDir)
}

/** Makes the next CA, or what is missing of it; returns the names of what it made, none where all was there. */
export async function makeNext(dataDir: string, now: Date): Promise<string[]> {
  openAuthority(dataDir) // a CA that is not whole is no base for another
  const { folder } = authorityFiles(dataDir, 'next')
  if (!existsSync(folder)) mkdirSync(folder, { mode: 0o700 })
  syncFolder(dirname(folder))
  removeTemporaries(folder)
  const made = await createAuthority(dataDir, now, 'next')
  openAuthority(dataDir, 'next')
  return made.map((file) => file.slice(dataDir.length + 1))
}

/** Puts the next CA in the place of the one there is; returns where the old one's files are. Throws `conflict` without one. */
export function cutOver(dataDir: string, faults: (step: string) => void = () => {}): string {
  const finished = finishCutOver(dataDir, faults)
  if (finished !== undefined) return finished
  if (!hasNext(dataDir))
    throw new PawlError('conflict', 'there is no next root to cut over to', {
      hint: 'make it with pawl root rotate; docs/certificates.md has the steps',
    })
  openAuthority(dataDir, 'next')
  const label = rootFingerprint(openAuthority(dataDir).rootCertificate).slice(0, 16)
  const { folder } = authorityFiles(dataDir, 'next')
  const has = parts.filter((part) => existsSync(join(folder, part)))
  write(dataDir, { step: 'retire', label, has })
  faults('begun')
  return finishCutOver(dataDir, faults) ?? retiredFolder(dataDir)
}

/** Goes on with a cut-over that was cut off; returns where the old files are, undefined where there is none. */
export function finishCutOver(
  dataDir: string,
  faults: (step: string) => void = () => {},
): string | undefined {
  const journal = read(dataDir)
  if (journal === undefined) return undefined
  if (journal.step === 'retire') {
    retire(dataDir, journal.label, faults)
    write(dataDir, { ...journal, step: 'replace' })
    faults('retired')
  }
  replace(dataDir, journal.has, faults)
  rmSync(authorityFiles(dataDir, 'next').folder, { recursive: true, force: true })
  syncFolder(join(dataDir, 'pki'))
  faults('replaced')
  rmSync(cutOverFile(dataDir))
  syncFolder(join(dataDir, 'pki'))
  return join(retiredFolder(dataDir), journal.label)
}

/** Copies are made by name: a second run finds them, and what is only here is never overwritten. */
function retire(dataDir: string, label: string, faults: (step: string) => void): void {
  const folder = join(retiredFolder(dataDir), label)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  syncFolder(join(dataDir, 'pki'))
  syncFolder(retiredFolder(dataDir))
  for (const part of parts) {
    const file = placeOf(dataDir, part)
    const isPublic = part.endsWith('.crt')
    const text = isPublic ? findPublicFile(file) : findSecretFile(file)
    if (text !== undefined) createFile(join(folder, part), text, isPublic ? 0o644 : 0o600)
    faults(`retire ${part}`)
  }
}

/** A part that the new CA does not have here (its root key is offline) must not stay the old one's. */
function replace(dataDir: string, has: readonly Part[], faults: (step: string) => void): void {
  const { folder } = authorityFiles(dataDir, 'next')
  for (const part of parts) {
    const [from, to] = [join(folder, part), placeOf(dataDir, part)]
    if (!has.includes(part)) rmSync(to, { force: true })
    else if (existsSync(from)) renameSync(from, to)
    faults(`replace ${part}`)
  }
  syncFolder(dataDir)
  syncFolder(join(dataDir, 'pki'))
}

function placeOf(dataDir: string, part: Part): string {
  return part === 'ca.crt' ? join(dataDir, part) : join(dataDir, 'pki', part)
}

function write(dataDir: string, journal: Journal): void {
  writeFileDurably(cutOverFile(dataDir), `${JSON.stringify(journal)}\n`, 0o600)
}

function read(dataDir: string): Journal | undefined {
  const text = findSecretFile(cutOverFile(dataDir))
  if (text === undefined) return undefined
  try {
    const { step, label, has } = JSON.parse(text) as Journal
    if ((step === 'retire' || step === 'replace') && /^[0-9a-f]{16}$/.test(label) && Array.isArray(has))
      return { step, label, has: parts.filter((part) => has.includes(part)) }
  } catch {
    // told below: it is written whole, so somebody else wrote this
  }
  throw new PawlError('invalid', `${cutOverFile(dataDir)} is not what a cut-over wrote`, {
    hint: 'restore the data folder from a backup',
  })
}
