import type { Command } from 'commander'
import { settings } from '../../config-table.ts'
import { answer, type Context } from '../context.ts'
import { withExamples } from '../examples.ts'
import type { InitResult, SettingFlags } from '../io.ts'
import { addSettingFlag } from '../setting-flag.ts'

/** Adds `pawl init`. */
export function addInitCommand(program: Command, context: Context): void {
  const command = program
    .command('init')
    .description(
      'Make the data folder: a CA, keys, the database and a first admin token. Run again it changes nothing.',
    )
  for (const name of ['publicUrl', 'names', 'database'] as const) addSettingFlag(command, settings[name])
  command.action(async (flags: SettingFlags) => {
    const made = await context.local.init({ ...context.flags(), ...flags }, context.io)
    answer(context, made, () => showInit(context, made))
  })
  withExamples(command, [
    'pawl init --data DIR --public-url https://boot.example.com:8443',
    'pawl init --data DIR --name boot.example.com --name 192.0.2.10',
  ])
}

function showInit({ output }: Context, { ca, adminToken, created }: InitResult): void {
  output.line(created.length === 0 ? 'all was there already; nothing was changed' : 'made:')
  for (const file of created) output.line(`  ${file}`)
  output.line(`the root certificate to trust: ${ca}`)
  output.line(`the admin's token: ${adminToken}`)
}
