import { type Digest, digestOf } from '../../src/domain/digest.ts'
import { PawlError } from '../../src/errors.ts'
import type { ArtifactStore } from '../../src/images/artifacts.ts'

/** A store in memory that counts what is done to it and fails where a test says. */
export interface MemoryStore {
  readonly store: ArtifactStore
  readonly add: (content: Buffer) => Digest
  /** Positions read, in order. */
  readonly reads: number[]
  readonly openFiles: () => number
  /** How often one was opened. */
  readonly opens: () => number
  /** Set it to fail reads. */
  failReads: ((position: number) => boolean) | undefined
  /** Set it to send other bytes than are stored. */
  alter: boolean
}

/** Makes one. */
export function memoryStore(): MemoryStore {
  const contents = new Map<Digest, Buffer>()
  let opened = 0
  let opens = 0
  const find = (digest: Digest): Buffer => {
    const content = contents.get(digest)
    if (content === undefined) throw new PawlError('not-found', `no artifact ${digest} is stored`)
    return content
  }
  const memory: MemoryStore = {
    reads: [],
    failReads: undefined,
    alter: false,
    openFiles: () => opened,
    opens: () => opens,
    add: (content) => {
      const digest = digestOf(content)
      contents.set(digest, content)
      return digest
    },
    store: {
      has: async (digest) => contents.get(digest)?.length,
      put: async () => 0,
      received: async () => 0,
      tidy: async () => undefined,
      remove: async (digest) => {
        contents.delete(digest)
      },
      list: async function* () {
        for (const [digest, { length }] of contents) yield { digest, size: length, modifiedAt: new Date(0) }
      },
      verify: async (digest) => find(digest).length,
      open: async (digest) => {
        const content = find(digest)
        opened += 1
        opens += 1
        return {
          size: content.length,
          read: async (into, position) => {
            memory.reads.push(position)
            await new Promise(setImmediate)
            if (memory.failReads?.(position)) throw new Error('EIO: i/o error, read')
            into.set(content.subarray(position, position + into.length))
            if (memory.alter) into[0] = (into[0] ?? 0) ^ 1
          },
          close: async () => {
            opened -= 1
          },
        }
      },
    },
  }
  return memory
}
