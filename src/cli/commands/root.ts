import type { Command } from 'commander'
import { settings } from '../../config-table.ts'
import { PawlError } from '../../errors.ts'
import type { RootsView } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatTime } from '../format.ts'
import type { SettingFlags } from '../io.ts'
import type { CutOverResult, RotateResult } from '../local-results.ts'
import { addSettingFlag } from '../setting-flag.ts'
import { toned } from '../text.ts'

interface ShowFlags {
  readonly days: string
  readonly pem?: true
}

/** Adds `pawl root`. */
export function addRootCommands(program: Command, context: Context): void {
  const root = program
    .command('root')
    .description('The root certificate that machines trust, and its rotation.')
  addShow(root, context)
  addRotate(root, context)
  addCutOver(root, context)
}

function addShow(root: Command, context: Context): void {
  const show = root
    .command('show')
    .description('The roots that machines boot by, and which nodes need the old one still.')
    .option('--days <N>', 'what counts as lately', '30')
    .option('--pem', 'print the roots themselves, for clients that are to trust all of them')
    .action((flags: ShowFlags) =>
      withApi(context, async (api) => {
        const roots = await api.get<RootsView>('/roots', { days: daysOf(flags.days) })
        answer(context, roots, () => (flags.pem ? showPem(context, roots) : showRoots(context, roots)))
      }),
    )
  withExamples(show, ['pawl root show', 'pawl root show --days 90', 'pawl root show --pem > ca.crt'])
}

function addRotate(root: Command, context: Context): void {
  const rotate = root
    .command('rotate')
    .description(
      "Make another CA beside the one there is, on the server's machine. Nothing is served by it yet; run again it changes nothing.",
    )
  addSettingFlag(rotate, settings.database)
  rotate.action(async (flags: SettingFlags) => {
    const made = await context.local.rotateRoot({ ...context.flags(), ...flags }, context.io)
    answer(context, made, () => showRotated(context, made))
  })
  withExamples(rotate, ['pawl root rotate --data DIR'])
}

function addCutOver(root: Command, context: Context): void {
  const command = root
    .command('cut-over')
    .description(
      "Put the next CA in the place of the one there is, on the server's machine. Refused while nodes boot by the old root. Says what it would do, and does nothing until --yes.",
    )
    .option('--days <N>', 'refuse while a node booted by the old root in so many days', '30')
    .option('--force', 'do it all the same: nodes that know only the old root find nobody')
    .option('--yes', 'do it')
  addSettingFlag(command, settings.database)
  command.action(async (flags: SettingFlags) => {
    const days = daysOf(String(flags.days))
    const done = await context.local.cutOverRoot({ ...context.flags(), ...flags, days }, context.io)
    answer(context, done, () => showCutOver(context, done))
  })
  withExamples(command, [
    'pawl root cut-over --data DIR',
    'pawl root cut-over --days 90 --data DIR --yes',
    'pawl root cut-over --force --data DIR --yes',
  ])
}

function daysOf(text: string): number {
  const days = Number(text)
  if (/^\d{1,4}$/.test(text) && days >= 1 && days <= 3650) return days
  throw new PawlError(
    'usage',
    `--days ${JSON.stringify(text.slice(0, 20))} is not a whole number from 1 to 3650`,
  )
}

function showPem({ output }: Context, { entries, next }: RootsView): void {
  for (const { certificates } of [...entries, ...(next === null ? [] : [next])])
    for (const line of certificates.trimEnd().split('\n')) output.line(line)
}

const states: Readonly<Record<RootsView['rotation'], string>> = {
  none: 'none',
  made: 'the next root is made, and not served yet: docs/certificates.md',
  served: 'both roots are served',
}

function showRoots({ output }: Context, { rotation, entries, next, days, users }: RootsView): void {
  output.fields([
    { name: 'rotation', value: toned(rotation === 'none' ? 'plain' : 'warn', states[rotation]) },
    ...entries.flatMap(({ name, publicUrl, root, nodes }) => [
      { name, value: publicUrl },
      { name: '', value: `root ${root}` },
      { name: '', value: `${count(nodes, 'node')} in the last ${days} days` },
    ]),
    ...(next === null ? [] : [{ name: 'next', value: `root ${next.root}` }]),
  ])
  if (users.length === 0) {
    if (rotation === 'served') output.line('no node has booted by the old root')
    return
  }
  output.table(
    [{ title: 'NODE' }, { title: 'BY THE OLD ROOT' }, { title: 'FROM' }, { title: 'BY ANOTHER' }],
    users.map(({ node, lastAt, source, otherAt }) => [
      node,
      formatTime(lastAt),
      source,
      otherAt === null || otherAt <= lastAt
        ? toned('warn', otherAt === null ? 'never' : formatTime(otherAt))
        : formatTime(otherAt),
    ]),
  )
}

function showRotated({ output }: Context, { from, to, ca, created }: RotateResult): void {
  output.line(created.length === 0 ? 'all was there already; nothing was changed' : 'made:')
  for (const file of created) output.line(`  ${file}`)
  output.fields([
    { name: 'root', value: from },
    { name: 'next root', value: to },
    { name: 'its file', value: ca },
  ])
  output.note(
    'next: give publicUrl and bootListen a new name or port, and oldPublicUrl and oldBootListen what they were; restart',
  )
}

function showCutOver({ output }: Context, done: CutOverResult): void {
  const { applied, from, to, users, stranded, moved, days, retired } = done
  output.fields([
    { name: 'from', value: from },
    { name: 'to', value: to },
    { name: 'booted by it', value: count(moved, 'node') },
  ])
  const list = (
    title: string,
    nodes: readonly { readonly node: string; readonly lastAt: string }[],
  ): void => {
    if (nodes.length === 0) return
    output.line(title)
    for (const { node, lastAt } of nodes) output.line(`  ${node}, ${formatTime(lastAt)}`)
  }
  list(`booted by the old root in the last ${days} days:`, users)
  list(
    'booted by it before, and by no other since: their media must be new before they start again:',
    stranded,
  )
  if (!applied) {
    output.note('nothing was changed; --yes does it')
    return
  }
  output.line(`cut over; the old CA's files are in ${retired}`)
  output.note(
    'a running server follows within seconds; take oldPublicUrl and oldBootListen out of its settings',
  )
}
