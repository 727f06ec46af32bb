import { Command, type Option } from 'commander'
import { addBackupCommands } from './commands/backup.ts'
import { addChannelCommands } from './commands/channel.ts'
import { addCompletionCommands } from './commands/completion.ts'
import { addContextCommands } from './commands/context.ts'
import { addDatabaseCommands } from './commands/database.ts'
import { addDhcpCommands } from './commands/dhcp.ts'
import { addDoctorCommand } from './commands/doctor.ts'
import { addEventCommands } from './commands/event.ts'
import { addExtensionCommands } from './commands/extension.ts'
import { addFleetCommands } from './commands/fleet.ts'
import { addIdentityCommands } from './commands/identity.ts'
import { addImageCommands } from './commands/image.ts'
import { addImportCommands } from './commands/import.ts'
import { addInitCommand } from './commands/init.ts'
import { addIpxeCommands } from './commands/ipxe.ts'
import { addLoginCommand } from './commands/login.ts'
import { addMediaCommands } from './commands/media.ts'
import { addNodeCommands } from './commands/node.ts'
import { addOperatorCommands } from './commands/operator.ts'
import { addProfileCommands } from './commands/profile.ts'
import { addProposalCommands } from './commands/proposal.ts'
import { addPublisherCommands } from './commands/publisher.ts'
import { addReinstallCommands } from './commands/reinstall.ts'
import { addRolloutCommands } from './commands/rollout.ts'
import { addRootCommands } from './commands/root.ts'
import { addServerCommand } from './commands/server.ts'
import { addStatusCommand } from './commands/status.ts'
import { addStormCommands } from './commands/storm.ts'
import { addWebhookCommands } from './commands/webhook.ts'
import type { Context } from './context.ts'
import { withExamples } from './examples.ts'
import type { Io } from './io.ts'
import { printable } from './text.ts'

/** Every command there is, as commander's tree. What runs, and what help and `docs/cli.md` say, comes from it. */
export function buildProgram(io: Io, contextOf: (program: Command) => Context, version: string): Command {
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
  const context = contextOf(program)
  addInitCommand(program, context)
  addServerCommand(program, context)
  addBackupCommands(program, context)
  addDoctorCommand(program, context)
  addDhcpCommands(program, context)
  addDatabaseCommands(program, context)
  addIpxeCommands(program, context)
  addRootCommands(program, context)
  addIdentityCommands(program, context)
  addStatusCommand(program, context)
  addNodeCommands(program, context)
  addMediaCommands(program, context)
  addImageCommands(program, context)
  addPublisherCommands(program, context)
  addProfileCommands(program, context)
  addFleetCommands(program, context)
  addImportCommands(program, context)
  addEventCommands(program, context)
  addChannelCommands(program, context)
  addReinstallCommands(program, context)
  addRolloutCommands(program, context)
  addProposalCommands(program, context)
  addWebhookCommands(program, context)
  addExtensionCommands(program, context)
  addStormCommands(program, context)
  addOperatorCommands(program, context)
  addLoginCommand(program, context)
  addContextCommands(program, context)
  addCompletionCommands(program, context)
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
