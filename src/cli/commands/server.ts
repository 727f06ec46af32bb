import type { Command } from 'commander'
import { settings } from '../../config-table.ts'
import type { Context } from '../context.ts'
import { withExamples } from '../examples.ts'
import type { SettingFlags } from '../io.ts'
import { addSettingFlag } from '../setting-flag.ts'

/** Adds `pawl server`, with a flag for every setting. */
export function addServerCommand(program: Command, context: Context): void {
  const command = program
    .command('server')
    .description(
      'Serve machines and operators until told to stop. Prints one JSON line when it is ready; logs go to stderr. Each setting is a flag, a variable PAWL_... and a line of pawl.yaml in the data folder.',
    )
  for (const [name, setting] of Object.entries(settings)) {
    if (name !== 'dataDir') addSettingFlag(command, setting)
  }
  command.action((flags: SettingFlags) => context.local.server({ ...context.flags(), ...flags }, context.io))
  withExamples(command, [
    'pawl server --data ./pawl-data',
    'pawl server --data ./pawl-data --boot-listen 192.0.2.10:8443',
  ])
}
