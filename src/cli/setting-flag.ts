import { type Command, Option } from 'commander'
import type { Setting } from '../config-table.ts'
import { collect } from './values.ts'

/** What stands for a value in the help, where it is not the unit. */
const placeholders: Readonly<Partial<Record<Setting<unknown>['unit'], string>>> = {
  path: 'DIR',
  file: 'FILE',
}

/** Adds a setting's flag. Its value is taken as text: `config.ts` reads it, like what variables and the file say. */
export function addSettingFlag(command: Command, setting: Setting<unknown>): void {
  const value = placeholders[setting.unit] ?? setting.unit
  const standard = setting.default === null ? '' : ` (default ${setting.default})`
  const meaning = `${setting.meaning.replaceAll('`', '')}${standard}`
  const option = new Option(`${setting.flag} <${value}>`, meaning)
  command.addOption(setting.many ? option.argParser(collect) : option)
}
