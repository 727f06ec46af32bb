import type { Command } from 'commander'
import { settings } from '../../config-table.ts'
import { answer, type Context } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count } from '../format.ts'
import type { SettingFlags } from '../io.ts'
import type { DowngradeResult, MoveResult } from '../local-results.ts'
import { addSettingFlag } from '../setting-flag.ts'

/** Adds `pawl database downgrade` and `move`. */
export function addDatabaseCommands(program: Command, context: Context): void {
  const database = program.command('database').description('Look after the database.')
  const command = database
    .command('downgrade')
    .description(
      'Take the database back to an older release, so that its server can run on it again. Says what is lost, and does nothing until --yes; then makes a backup first. The server must be stopped.',
    )
    .requiredOption('--to <RELEASE>', 'the release to go back to, like 0.5.0')
    .option('--yes', 'do it')
  addSettingFlag(command, settings.database)
  command.action(async (flags: SettingFlags) => {
    const done = await context.local.downgrade({ ...context.flags(), ...flags }, context.io)
    answer(context, done, () => show(context, done))
  })
  addMove(database, context)
  withExamples(command, [
    'pawl database downgrade --to 0.5.0 --data DIR',
    'pawl database downgrade --to 0.5.0 --data DIR --yes',
  ])
}

function addMove(database: Command, context: Context): void {
  const command = database
    .command('move')
    .description(
      'Move the database from SQLite to PostgreSQL, and verify it. The server must be stopped; the data folder and the old database stay as they are. Into an empty database only.',
    )
    .requiredOption('--to <URL>', 'postgres:// URL of an empty database')
  addSettingFlag(command, settings.database)
  command.addHelpText(
    'after',
    `
Arguments are seen by every user of the machine: leave the password out of
--to, and give it by PGPASSWORD or ~/.pgpass.
`,
  )
  command.action(async (flags: SettingFlags) => {
    const moved = await context.local.moveDatabase({ ...context.flags(), ...flags }, context.io)
    answer(context, moved, () => showMoved(context, moved))
  })
  withExamples(command, ['pawl database move --to postgres://pawl@db.example.com/pawl --data DIR'])
}

function showMoved(
  { output }: Context,
  { from, to, rows, tables, events, chains, checkpoint }: MoveResult,
): void {
  output.line(`moved: ${count(rows, 'row')} of ${count(tables, 'table')}, each read back and the same`)
  output.line(
    `verified: ${count(events, 'event')} in ${count(chains, 'chain')}; checkpoint ${checkpoint} signs them`,
  )
  output.line('the one setting to change, in pawl.yaml (0600), with the password where one is needed:')
  output.line(`  database: ${to}`)
  output.note(`${from} is as it was: move it away, so that no server starts on the past`)
}

function show(
  { output }: Context,
  { release, applied, backup, undone, rows, values }: DowngradeResult,
): void {
  if (undone.length === 0) {
    output.line(`the database is as ${release} left it: nothing to do`)
    return
  }
  output.line(`${applied ? 'taken back' : 'would be taken back'} to ${release}: ${undone.join(', ')}`)
  for (const row of rows) output.line(`  lost: ${count(row.count, 'row')} of ${row.table}`)
  for (const { table, column, count: many } of values)
    output.line(`  lost: ${column} of ${count(many, 'row')} of ${table}`)
  if (backup === null) output.note('nothing was changed; --yes does it')
  else output.line(`everything as it was before: ${backup}`)
}
