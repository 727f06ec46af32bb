import { open, rm } from 'node:fs/promises'
import { type Command, InvalidArgumentError } from 'commander'
import type { CheckpointKeySet, CheckpointWithPlaces } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatTime } from '../format.ts'

interface CheckpointFlags {
  readonly out?: string
  readonly seq?: string
}

/** Adds `pawl event checkpoint`. */
export function addCheckpoint(event: Command, context: Context): void {
  const command = event
    .command('checkpoint')
    .description(
      'Sign where every chain of events is now, and write it to a file to keep elsewhere: what is edited, cut off or set back later is found against it.',
    )
    .option('--out <FILE>', 'a new file for it, with the list of chains')
    .option('--seq <N>', 'not a new one: the one of this number, or the last', parseSeq)
    .action(({ out, seq }: CheckpointFlags) =>
      withApi(context, async (api) => {
        const file = out === undefined ? undefined : await claim(out) // before anything is signed
        const made =
          seq === undefined
            ? await api.post<CheckpointWithPlaces>('/events/checkpoints').catch(file?.giveUp)
            : await api.get<CheckpointWithPlaces>(`/events/checkpoints/${seq}`).catch(file?.giveUp)
        const { writeCheckpointFile } = await import('../../domain/checkpoint.ts')
        await file?.write(writeCheckpointFile({ jws: made.jws, places: made.places ?? undefined }))
        answer(context, made, () => {
          const { seq: number, at, chains, events, kid, jws } = made
          context.output.note(
            `checkpoint ${number} of ${formatTime(at)}: ${count(events, 'event')} in ${count(chains, 'chain')}, key ${kid}`,
          )
          context.output.line(out ?? jws)
        })
      }),
    )
  withExamples(command, [
    'pawl event checkpoint --out checkpoint.json',
    'pawl event checkpoint --seq last > last.jws',
    'pawl event checkpoint --seq 42 --out checkpoint-42.json',
  ])
}

/** Adds `pawl event keys`. */
export function addKeys(event: Command, context: Context): void {
  const command = event
    .command('keys')
    .description('The public keys that signed checkpoints, as a JWK Set: keep them elsewhere.')
    .option('--out <FILE>', 'a new file for them')
    .option('--replace', 'sign with a new key from here on; the old ones stay listed')
    .action(({ out, replace }: { out?: string; replace?: true }) =>
      withApi(context, async (api) => {
        const file = out === undefined ? undefined : await claim(out)
        const path = '/events/checkpoint-keys'
        const asked = replace === true ? api.post<CheckpointKeySet>(path) : api.get<CheckpointKeySet>(path)
        const set = await asked.catch(file?.giveUp)
        await file?.write(`${JSON.stringify(set, undefined, 2)}\n`)
        answer(context, set, () => {
          if (out !== undefined) context.output.line(out)
          else showKeys(context, set)
        })
      }),
    )
  withExamples(command, ['pawl event keys', 'pawl event keys --out keys.json', 'pawl event keys --replace'])
}

function showKeys({ output }: Context, { keys }: CheckpointKeySet): void {
  if (keys.length === 0) {
    output.note('no checkpoint was signed yet')
    return
  }
  const time = (value: unknown): string => (typeof value === 'string' ? formatTime(value) : '-')
  output.table(
    [{ title: 'KEY', min: 43 }, { title: 'SINCE' }, { title: 'UNTIL' }],
    keys.map(({ kid, createdAt, retiredAt }) => [String(kid), time(createdAt), time(retiredAt)]),
  )
}

/** A new file, empty until it is written; `giveUp` takes it away again, and throws on. */
async function claim(name: string): Promise<{
  write(text: string): Promise<void>
  giveUp(error: unknown): Promise<never>
}> {
  const { fileFault } = await import('../audit/checkpoint.ts')
  const refused = (error: unknown): never => {
    throw fileFault(name, error)
  }
  const file = await open(name, 'wx').catch(refused)
  return {
    write: (text) => file.writeFile(text).then(() => file.close(), refused),
    async giveUp(error) {
      await file.close()
      await rm(name, { force: true })
      throw error
    },
  }
}

function parseSeq(text: string): string {
  if (/^([1-9]\d{0,8}|last)$/.test(text)) return text
  throw new InvalidArgumentError('It must be a number, at least 1, or last.')
}
