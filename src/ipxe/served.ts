/**
 * The iPXE binaries as they are sent to machines. What `pawl ipxe` changes is seen by the next request; bytes that are not what
 * the index says are not sent, and binaries in use are in memory once, however many machines fetch them.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type IpxeBinary, type IpxeListing, ipxeFolder, listIpxe, readIpxe } from './folder.ts'

/** A binary that is ready to be sent. */
export interface ServedIpxe {
  readonly binary: IpxeBinary
  readonly bytes: Buffer
}

/** The binaries of one data folder. */
export interface ServedBinaries {
  /** What there is now, by name. */
  list(): Promise<readonly IpxeBinary[]>
  /** The same with what is not served, and why. */
  listing(): Promise<IpxeListing>
  /** The binary of this name; undefined where there is none that may be sent. */
  find(name: string): Promise<ServedIpxe | undefined>
}

/** What `serveBinaries` takes. */
export interface ServedOptions {
  /** Called once for each binary that must not be sent, and for a folder that cannot be read. */
  readonly onFault: (fault: { readonly name: string; readonly message: string }) => void
  /** Memory for binaries, in bytes. Default 64 MiB. */
  readonly maxBytes?: number
}

interface Loaded {
  readonly stamp: string
  readonly listing: Promise<IpxeListing>
}

/** Opens the folder; it need not be there yet. */
export function serveBinaries(dataDir: string, options: ServedOptions): ServedBinaries {
  const { onFault, maxBytes = 64 * 2 ** 20 } = options
  let loaded: Loaded | undefined
  /** What was told since the index changed: whoever asks for a broken file again must not write a line each time. */
  const told = new Set<string>()
  /** By digest; the first is the one that was used longest ago. */
  const kept = new Map<string, { readonly size: number; readonly bytes: Promise<Buffer> }>()

  async function listing(): Promise<IpxeListing> {
    const stamp = await stampOf(dataDir)
    // The stamp is of before the reading: a change in the middle has another one, and is read by the next.
    if (loaded?.stamp !== stamp) loaded = { stamp, listing: load() }
    return loaded.listing
  }

  async function load(): Promise<IpxeListing> {
    const listing = await listIpxe(dataDir).catch((error: unknown): IpxeListing => {
      const message = error instanceof Error ? error.message : String(error)
      return { binaries: [], faults: [{ name: 'index.json', message }] }
    })
    told.clear()
    for (const fault of listing.faults) onFault(fault)
    return listing
  }

  function read(binary: IpxeBinary): Promise<Buffer> {
    const known = kept.get(binary.sha256)?.bytes
    const bytes = known ?? readIpxe(binary)
    kept.delete(binary.sha256)
    kept.set(binary.sha256, { size: binary.size, bytes })
    if (known === undefined) {
      bytes.catch(() => kept.delete(binary.sha256))
      makeRoom(binary.sha256)
    }
    return bytes
  }

  function makeRoom(newest: string): void {
    let total = 0
    for (const { size } of kept.values()) total += size
    for (const [digest, { size }] of kept) {
      if (total <= maxBytes || digest === newest) return
      total -= size
      kept.delete(digest)
    }
  }

  return {
    listing,
    list: async () => (await listing()).binaries,
    async find(name) {
      const binary = (await listing()).binaries.find((each) => each.name === name)
      if (binary === undefined) return undefined
      try {
        return { binary, bytes: await read(binary) }
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        if (!told.has(`${name} ${message}`)) onFault({ name, message })
        told.add(`${name} ${message}`)
        return undefined
      }
    },
  }
}

/** Changes whenever the index does: it is written anew and renamed into place. */
async function stampOf(dataDir: string): Promise<string> {
  const found = await stat(join(ipxeFolder(dataDir), 'index.json'), { bigint: true }).catch(() => undefined)
  return found === undefined ? 'none' : `${found.ino} ${found.mtimeNs} ${found.ctimeNs} ${found.size}`
}
