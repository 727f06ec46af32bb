import pino from 'pino'

/** What lines are written to. */
export interface LineSink {
  write(lines: string): unknown
}

/** Lines that wait, in characters: more are written at once. */
const mostHeld = 16_384
/** No line waits longer. */
const pauseMilliseconds = 100
/** pino's number of `warn`. */
const warn = 40

/**
 * Writes lines together: a write for each request costs as much as making its line (0.05 ms of 1.7, measured). Lines of `warn` and
 * above are written at once, with all that wait before them: those before a crash are the ones that matter. The rest waits for 100 ms or
 * 16 KB, and is written when the process ends by itself; `kill -9` loses so much of it.
 */
export function inBatches(sink: LineSink): pino.DestinationStream & { flush(): void } {
  let held = ''
  let timer: NodeJS.Timeout | undefined

  function flush(): void {
    clearTimeout(timer)
    timer = undefined
    if (held === '') return
    const lines = held
    held = ''
    sink.write(lines)
  }

  return {
    // pino tells the level of each line to whoever has this.
    [pino.symbols.needsMetadataGsym]: true as const,
    lastLevel: 0,
    write(this: { lastLevel: number }, line: string): void {
      held += line
      if (this.lastLevel >= warn || held.length >= mostHeld) flush()
      else timer ??= setTimeout(flush, pauseMilliseconds).unref()
    },
    flush,
  } as pino.DestinationStream & { flush(): void } // its type has no room for the symbol
}

let standardError: ReturnType<typeof inBatches> | undefined

/** The server's log: stderr, of which a process has one. */
export function toStderr(): pino.DestinationStream {
  if (standardError === undefined) {
    standardError = inBatches(pino.destination({ dest: 2, sync: true }))
    process.once('exit', standardError.flush)
  }
  return standardError
}
