/** Where the CAs of a data folder are. What looks no further than at files is here: commands start without the rest. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { findPublicFile } from './key-file.ts'

/** The CA that there is, and the one that takes its place when the root is rotated. */
export type Generation = 'current' | 'next'

/** Where a CA's files are. */
export function authorityFiles(dataDir: string, generation: Generation = 'current') {
  const isNext = generation === 'next'
  const folder = isNext ? join(dataDir, 'pki', 'next') : join(dataDir, 'pki')
  return {
    folder,
    rootCertificate: join(isNext ? folder : dataDir, 'ca.crt'),
    rootKey: join(folder, 'root.key'),
    issuingCertificate: join(folder, 'issuing.crt'),
    issuingKey: join(folder, 'issuing.key'),
  }
}

/** Where a cut-over of the root writes down how far it is. */
export function cutOverFile(dataDir: string): string {
  return join(dataDir, 'pki', 'cut-over.json')
}

/** Where the files of CAs go that another took the place of. */
export function retiredFolder(dataDir: string): string {
  return join(dataDir, 'pki', 'retired')
}

/** Whether there is a whole next CA: its last file is there. */
export function hasNext(dataDir: string): boolean {
  return existsSync(authorityFiles(dataDir, 'next').issuingCertificate)
}

/** The file of the roots that machines trust at the server's public URL, by its settings: what new media must know. */
export function mainRootFile(
  dataDir: string,
  { bootCaFile, oldBootListen }: { readonly bootCaFile: string | undefined; readonly oldBootListen: unknown },
): string {
  if (bootCaFile !== undefined) return bootCaFile
  const isServed = oldBootListen !== undefined && hasNext(dataDir)
  return authorityFiles(dataDir, isServed ? 'next' : 'current').rootCertificate
}

/** The labels of retired CAs. */
export function retiredLabels(dataDir: string): string[] {
  const folder = retiredFolder(dataDir)
  return existsSync(folder) ? readdirSync(folder).sort() : []
}

/** Their roots, PEM: what was signed while they were served is still to be recognised. */
export function retiredRoots(dataDir: string): string {
  return retiredLabels(dataDir)
    .map((label) => findPublicFile(join(retiredFolder(dataDir), label, 'ca.crt')) ?? '')
    .join('')
}
