import { type Command, InvalidArgumentError } from 'commander'
import type { PrunePlan } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatAge, formatSize } from '../format.ts'
import { parseDuration } from '../values.ts'

interface Flags {
  readonly keep: number
  readonly olderThan: number
  readonly yes?: true
}

const month = 30 * 86_400

/** Adds `pawl image prune`. */
export function addPruneCommand(image: Command, context: Context): void {
  const command = image
    .command('prune')
    .description(
      'Remove old versions, and bytes that no version names. Never what a profile, channel, rollout, open session or proposal uses. The plan is printed, and nothing done until --yes.',
    )
    .option('--keep <N>', 'the newest versions of each name stay (5)', parseCount, 5)
    .option('--older-than <TIME>', 'younger versions stay (30d)', parseDuration, month)
    .option('--yes', 'do it')
    .action(({ keep, olderThan, yes }: Flags) =>
      withApi(context, async (api) => {
        const rule = { keep, olderThanSeconds: olderThan }
        const plan = await api.post<PrunePlan>('/prune', { ...rule, apply: yes === true })
        answer(context, plan, () => show(context, plan))
      }),
    )
  withExamples(command, ['pawl image prune', 'pawl image prune --keep 3 --older-than 7d --yes'])
}

function show({ output, io }: Context, { versions, artifacts, bytes, used, applied }: PrunePlan): void {
  if (versions.length > 0) {
    output.table(
      [
        { title: applied ? 'REMOVED' : 'WOULD GO', min: 16 },
        { title: 'AGO', align: 'right' },
      ],
      versions.map(({ ref, createdAt }) => [ref, formatAge(createdAt, io.now())]),
    )
  }
  for (const { ref, by } of used) output.note(`${ref} stays: it is used by ${by}`)
  const what = `${count(versions.length, 'version')} and ${count(artifacts.length, 'artifact')}, ${formatSize(bytes)}`
  output.line(applied ? `removed ${what}` : `would remove ${what}`)
  if (!applied && versions.length + artifacts.length > 0)
    output.note('nothing was done: add --yes to remove them')
}

function parseCount(text: string): number {
  if (/^(0|[1-9]\d{0,5})$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number.')
}
