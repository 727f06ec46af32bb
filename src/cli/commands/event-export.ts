import { open, rename, rm } from 'node:fs/promises'
import type { Command } from 'commander'
import type { ChainedEvent } from '../../domain/event.ts'
import { PawlError } from '../../errors.ts'
import type { Api } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count } from '../format.ts'
import { parseTime } from '../time.ts'

/** Adds `pawl event export`. */
export function addExport(event: Command, context: Context): void {
  const command = event
    .command('export')
    .description(
      'Write events to a file before retention removes them: chain by chain, with all that their hashes cover, so that archive and record can be verified together.',
    )
    .option('--until <T>', 'only events before a time: 2026-11-21, 2026-11-21T06:00Z, or 30d ago')
    .requiredOption('--out <FILE>', 'a new file, one JSON document a line')
    .action(({ until, out }: { until?: string; out: string }) =>
      withApi(context, async (api) => {
        const now = context.io.now()
        const before = until === undefined ? undefined : parseTime('--until', until, now)
        const made = await write(api, out, { before, now })
        answer(context, { file: out, until: before ?? null, ...made }, () =>
          context.output.line(`${out}: ${count(made.events, 'event')} of ${count(made.chains, 'chain')}`),
        )
      }),
    )
  withExamples(command, [
    'pawl event export --out events.ndjson',
    'pawl event export --until 365d --out events-until-2025.ndjson',
    'pawl event verify --archive events-until-2025.ndjson',
  ])
}

/** Bytes gathered before they are written. */
const batchBytes = 1 << 20

/** Written beside its name and renamed when it is whole: a file of that name is complete. */
async function write(
  api: Api,
  out: string,
  { before, now }: { before: string | undefined; now: Date },
): Promise<{ events: number; chains: number }> {
  const { archiveFormat } = await import('../audit/archive.ts')
  const { fileFault } = await import('../audit/checkpoint.ts')
  const part = `${out}.part`
  const refused = (error: unknown): never => {
    throw error instanceof PawlError ? error : fileFault(out, error)
  }
  const claim = await open(out, 'wx').catch(refused) // nothing that is there is overwritten
  await claim.close()
  const file = await open(part, 'w').catch(refused)
  try {
    const chains = new Set<string>()
    let events = 0
    let text = `${JSON.stringify({ format: archiveFormat, until: before ?? null, exportedAt: now.toISOString() })}\n`
    for await (const event of oldEvents(api, before)) {
      chains.add(event.chain)
      events += 1
      text += `${JSON.stringify(event)}\n`
      if (text.length < batchBytes) continue
      await file.write(text)
      text = ''
    }
    await file.write(`${text}${JSON.stringify({ end: events })}\n`)
    await file.sync()
    await file.close()
    await rename(part, out)
    return { events, chains: chains.size }
  } catch (error) {
    await file.close().catch(() => {})
    await Promise.all([rm(part, { force: true }), rm(out, { force: true })])
    return refused(error)
  }
}

/** Of each chain the events up to the first that is not before the time: a stretch without gaps. */
async function* oldEvents(api: Api, before: string | undefined): AsyncGenerator<ChainedEvent> {
  const { chainedEvents, chainsOf } = await import('../audit/live.ts')
  if (before === undefined) {
    yield* chainedEvents(api, {})
    return
  }
  for (const { name, baseSeq, headSeq } of (await chainsOf(api)).values()) {
    if (headSeq === baseSeq) continue
    for await (const event of chainedEvents(api, { chain: name })) {
      if (event.at >= before) break
      yield event
    }
  }
}
