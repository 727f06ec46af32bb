import { setFlagsFromString } from 'node:v8'

/** By how much the heap may grow before all of it is looked through, in percent. */
export const heapRoomFlag = '--heap-growing-percent=100'

/**
 * Gives V8's collector room for what TLS keeps of writes under way. V8 counts that memory as if it were the heap's, though no
 * collection can free it, and where a heap of 50 MB has been quiet it allows it 8 MB more: eight writes of 1 MiB. Behind that
 * it marked the whole heap, again and again while machines downloaded, for a quarter of the CPU of sixteen downloads (profiled). With as much
 * room as the heap is large, the large writes (32 MB, `WriteBudget`) go by without. Of the process; V8 reads it at each collection.
 */
export function giveHeapRoom(): void {
  setFlagsFromString(heapRoomFlag)
}
