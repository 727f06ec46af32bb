import type { Command } from 'commander'
import { PawlError } from '../../errors.ts'
import type { VerificationView } from '../answers.ts'
import type { Api } from '../api.ts'
import type { VerifiedCheckpoint } from '../audit/checkpoint.ts'
import type { CheckedRecord } from '../audit/verify.ts'
import type { Connection } from '../connection.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatTime } from '../format.ts'
import { toned } from '../text.ts'
import { collect } from '../values.ts'

interface VerifyFlags {
  readonly checkpoint?: string
  readonly key?: string
  readonly full?: true
  readonly archive?: readonly string[]
}

/** Adds `pawl event verify`. */
export function addVerify(event: Command, context: Context): void {
  const command = event
    .command('verify')
    .description(
      'Check every event against its chain; with a checkpoint that was kept elsewhere, also that nothing was cut off, set back or made anew. Exits 1 and names the first bad event of each chain.',
    )
    .option('--checkpoint <FILE>', 'a checkpoint kept elsewhere: its signature is verified here')
    .option('--key <FILE>', 'the public keys kept elsewhere (a JWK Set); without it the server is asked')
    .option('--full', 'download every event and compute every hash here: the server is believed nothing')
    .option('--archive <FILE>', 'events that were trimmed, as exported; repeat it for several', collect)
    .action((flags: VerifyFlags) => {
      if (flags.key !== undefined && flags.checkpoint === undefined)
        throw new PawlError('usage', '--key without --checkpoint', {
          hint: 'name the checkpoint that it signed',
        })
      const byServer = flags.checkpoint === undefined && flags.archive === undefined && flags.full !== true
      return withApi(context, (api, connection) =>
        byServer ? verifyByServer(context, api) : verifyHere(context, api, connection, flags),
      )
    })
  withExamples(command, [
    'pawl event verify',
    'pawl event verify --checkpoint /safe/00000042.jws --key /safe/keys.json',
    'pawl event verify --full --checkpoint /safe/c.json --key /safe/keys.json \\\n      --archive events-2025.ndjson --archive events-2026.ndjson',
  ])
}

async function verifyByServer(context: Context, api: Api): Promise<void> {
  const found = await api.get<VerificationView>('/events/verify')
  answer(context, found, () => {
    showVerdict(context, found)
    context.output.note(`note: ${found.note}`)
  })
  refuse(found)
}

async function verifyHere(
  context: Context,
  api: Api,
  connection: Connection,
  flags: VerifyFlags,
): Promise<void> {
  const { checkRecord } = await import('../audit/verify.ts')
  const { readCheckpoint } = await import('../audit/checkpoint.ts')
  const { checkpoint: file, key: keyFile, archive: archives = [], full = false } = flags
  const checkpoint =
    file === undefined
      ? undefined
      : await readCheckpoint(api, { file, keyFile, ca: `${connection.ca}\n${connection.formerRoots ?? ''}` })
  const found = await checkRecord(api, { checkpoint, archives, full, now: context.io.now() })
  const about = checkpoint === undefined ? null : aboutCheckpoint(checkpoint)
  const notes = notesOf(found, flags)
  answer(context, { ...found, checkpoint: about, notes }, () => {
    if (about !== null) showCheckpoint(context, about)
    showVerdict(context, found)
    for (const note of notes) context.output.note(`note: ${note}`)
  })
  refuse(found)
}

type AboutCheckpoint = ReturnType<typeof aboutCheckpoint>

function aboutCheckpoint({ statement, kid, keyFrom }: VerifiedCheckpoint) {
  const { seq, at, chains, events } = statement
  return { seq, at, chains, events, kid, keyFrom }
}

function showCheckpoint(
  { output }: Context,
  { seq, at, chains, events, kid, keyFrom }: AboutCheckpoint,
): void {
  output.line(
    toned('good', 'signed'),
    `: checkpoint ${seq} of ${formatTime(at)}, ${count(events, 'event')} in ${count(chains, 'chain')}`,
  )
  output.line(`key ${kid}, from ${keyFrom === 'file' ? 'the file' : 'the server'}`)
}

/** What this check could not see: each with what would let it. */
function notesOf({ unproven }: CheckedRecord, { checkpoint, key, full }: VerifyFlags): string[] {
  const events = unproven.reduce((sum, { from, to }) => sum + to - from + 1, 0)
  return [
    ...(checkpoint === undefined
      ? ['without a checkpoint, what was cut off, set back or made anew is not found: give --checkpoint FILE']
      : []),
    ...(checkpoint !== undefined && key === undefined
      ? ['the key came from the server that is checked by it: keep it elsewhere and give --key FILE']
      : []),
    ...(full === true
      ? []
      : ['the links between events were checked by the server: --full downloads them and checks them here']),
    ...(unproven.length === 0
      ? []
      : [
          `${count(unproven.length, 'chain')} trimmed beyond this checkpoint, ${count(events, 'event')} in all: of those it proves nothing; give --archive FILE, or a newer checkpoint`,
        ]),
  ]
}

function showVerdict(
  { output }: Context,
  {
    ok,
    chains,
    events,
    faults,
    archived = 0,
  }: Pick<CheckedRecord, 'ok' | 'chains' | 'events' | 'faults'> & {
    readonly archived?: number
  },
): void {
  output.line(
    toned(ok ? 'good' : 'bad', ok ? 'sound' : 'NOT SOUND'),
    `: ${count(events, 'event')} in ${count(chains, 'chain')}${archived === 0 ? '' : `, ${archived} in archives`}`,
  )
  for (const fault of faults) output.line(faultOf(fault))
}

function refuse({ ok, faults }: Pick<CheckedRecord, 'ok' | 'faults'>): void {
  const [first] = faults
  if (ok && first === undefined) return
  throw new PawlError(
    'conflict',
    `the event log was changed${first === undefined ? '' : `: ${faultOf(first)}`}`,
    { hint: 'restore the database from a backup to see what was there; find out who could write to it' },
  )
}

function faultOf({ chain, seq, fault }: CheckedRecord['faults'][number]): string {
  return `event ${seq} of chain ${chain}: ${fault}`
}
