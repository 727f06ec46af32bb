import type { Argument, Command, Option } from 'commander'
import { examplesOf } from './examples.ts'

const opening = `# Commands

Made from the program's own help; \`test/cli/program.test.ts\` keeps it so.

Client commands find the server by \`--data DIR\` on its machine, by \`PAWL_URL\`, \`PAWL_TOKEN\` and \`PAWL_CA\` (the file of its root
certificate) elsewhere, or by \`PAWL_DATA\`. \`--data\` goes before \`PAWL_URL\`, and that before \`PAWL_DATA\`.

Every command takes \`--json\`: one document on stdout, the answer of the operator API in ASCII. Exit: 0 done, 1 refused or failed, 2 wrong usage.
Errors are on stderr, as \`error: …\` and, where there is one, \`hint: …\`. Colours are shown on a terminal, unless \`NO_COLOR\` is set.
`

/** The reference of all commands, in Markdown. */
export function commandReference(program: Command): string {
  return `${[opening, ...leavesOf(program, '').map(sectionOf)].join('\n')}`
}

interface Leaf {
  readonly path: string
  readonly command: Command
}

function leavesOf(command: Command, parent: string): Leaf[] {
  const path = `${parent}${command.name()}`
  const children = command.createHelp().visibleCommands(command)
  return command.commands.length === 0
    ? [{ path, command }]
    : children.filter((child) => child.name() !== 'help').flatMap((child) => leavesOf(child, `${path} `))
}

function sectionOf({ path, command }: Leaf): string {
  const rows = [...command.registeredArguments.map(argumentRow), ...command.options.map(optionRow)]
  const table = rows.length === 0 ? [] : ['', '| | |', '|---|---|', ...rows]
  return [
    `## ${path}`,
    '',
    `\`${[path, ...usageOf(command)].join(' ')}\``,
    '',
    command.description(),
    ...table,
    '',
    '```console',
    ...examplesOf(command).map((line) => `$ ${line}`),
    '```',
    '',
  ].join('\n')
}

/** Commander's usage puts `[options]` first; in print the flags follow what they are about. */
function usageOf(command: Command): string[] {
  const words = command.usage().split(' ')
  return words[0] === '[options]' ? [...words.slice(1), '[options]'] : words
}

function argumentRow(argument: Argument): string {
  return row(argument.required ? `<${argument.name()}>` : `[${argument.name()}...]`, argument.description)
}

function optionRow(option: Option): string {
  const choices = option.argChoices === undefined ? '' : ` (${option.argChoices.join(', ')})`
  const required = option.mandatory ? ' (required)' : ''
  return row(option.flags, `${option.description}${choices}${required}`)
}

function row(term: string, meaning: string): string {
  return `| \`${term.replaceAll('|', '\\|')}\` | ${meaning.replaceAll('|', '\\|')} |`
}
