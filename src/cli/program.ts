import { Command, type Option } from 'commander'
import { addCommands } from './commands.ts'
import type { Context } from './context.ts'
import { withExamples } from './examples.ts'
import type { Io } from './io.ts'
import { printable } from './text.ts'

/**
 * The commands that `io.argv` can be about, as commander's tree: every command there is, where it names none. What runs, and what help and
 * `docs/cli.md` say, comes from it.
 */
export async function buildProgram(
  io: Io,
  contextOf: (program: Command) => Context,
  version: string,
): Promise<Command> {
  const program: Command = new Command('pawl')
    .description('Pawl boots bare-metal machines over the Internet, and each boot can only move forward.')
    .option('--data <DIR>', "the data folder, on the server's machine")
    .option('--context <NAME>', 'a server that pawl login knows')
    .option('--json', 'answer with one JSON document on stdout')
    .version(version, '--version', 'print the version')
    .helpOption('-h, --help', 'say how it is used')
    .helpCommand('help [command]', 'say how a command is used')
    .exitOverride()
    .configureHelp({
      showGlobalOptions: true,
      minWidthToWrap: 20, // the flags of `server` are long: their meanings still fit beside them
      visibleGlobalOptions: (command): Option[] => (command.parent === null ? [] : globalOptions(program)),
    })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: () => {}, // told by `runCli`, in the form of all other errors
      getOutHelpWidth: () => io.columns ?? 80,
      getErrHelpWidth: () => io.columns ?? 80,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
  await addCommands(program, contextOf(program), io.argv)
  withExamples(program, [
    'pawl init --data ./pawl-data',
    'pawl server --data ./pawl-data',
    'pawl node list --data ./pawl-data',
    'export PAWL_URL=https://boot.example.com:8444 PAWL_CA=ca.crt PAWL_TOKEN=...',
  ])
  return program
}

function globalOptions(program: Command): Option[] {
  return program.options.filter((option) => option.long !== '--version')
}

/** The message and the hint in what commander says about wrong usage; `path` is the command that was meant. */
export function usageFault(message: string, path: string): { message: string; hint: string } {
  const [first = '', suggestion] = message.replace(/^error: /, '').split('\n')
  const meant = /^\(Did you mean (.*)\?\)$/.exec(suggestion ?? '')?.[1]
  return {
    message: printable(first),
    hint: meant === undefined ? `see ${path} --help` : `did you mean ${meant}?`,
  }
}
