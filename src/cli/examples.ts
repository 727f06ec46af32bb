import type { Command } from 'commander'

const known = new WeakMap<Command, readonly string[]>()

/** Adds examples to a command's help; `docs/cli.md` shows the same. */
export function withExamples(command: Command, examples: readonly string[]): Command {
  known.set(command, examples)
  return command.addHelpText('after', `\nExamples:\n${examples.map((line) => `  $ ${line}`).join('\n')}`)
}

/** The examples of a command. */
export function examplesOf(command: Command): readonly string[] {
  return known.get(command) ?? []
}
