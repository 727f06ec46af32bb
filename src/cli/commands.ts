import type { Command } from 'commander'
import type { Context } from './context.ts'

/** Adds commands to the tree. */
type AddCommands = (program: Command, context: Context) => void

interface CommandFile {
  /** The first words that it adds: a command line with one of them needs no other file. */
  readonly names: readonly string[]
  load(): Promise<AddCommands>
}

/** Where the commands are, in the order of the help. */
const commandFiles: readonly CommandFile[] = [
  { names: ['init'], load: async () => (await import('./commands/init.ts')).addInitCommand },
  { names: ['server'], load: async () => (await import('./commands/server.ts')).addServerCommand },
  {
    names: ['backup', 'restore'],
    load: async () => (await import('./commands/backup.ts')).addBackupCommands,
  },
  { names: ['doctor'], load: async () => (await import('./commands/doctor.ts')).addDoctorCommand },
  { names: ['dhcp'], load: async () => (await import('./commands/dhcp.ts')).addDhcpCommands },
  { names: ['database'], load: async () => (await import('./commands/database.ts')).addDatabaseCommands },
  { names: ['ipxe'], load: async () => (await import('./commands/ipxe.ts')).addIpxeCommands },
  { names: ['root'], load: async () => (await import('./commands/root.ts')).addRootCommands },
  { names: ['identity'], load: async () => (await import('./commands/identity.ts')).addIdentityCommands },
  { names: ['status'], load: async () => (await import('./commands/status.ts')).addStatusCommand },
  { names: ['node'], load: async () => (await import('./commands/node.ts')).addNodeCommands },
  { names: ['media'], load: async () => (await import('./commands/media.ts')).addMediaCommands },
  { names: ['image'], load: async () => (await import('./commands/image.ts')).addImageCommands },
  { names: ['publisher'], load: async () => (await import('./commands/publisher.ts')).addPublisherCommands },
  { names: ['profile'], load: async () => (await import('./commands/profile.ts')).addProfileCommands },
  {
    names: ['diff', 'apply', 'export'],
    load: async () => (await import('./commands/fleet.ts')).addFleetCommands,
  },
  { names: ['import'], load: async () => (await import('./commands/import.ts')).addImportCommands },
  { names: ['event'], load: async () => (await import('./commands/event.ts')).addEventCommands },
  { names: ['channel'], load: async () => (await import('./commands/channel.ts')).addChannelCommands },
  { names: ['reinstall'], load: async () => (await import('./commands/reinstall.ts')).addReinstallCommands },
  { names: ['rollout'], load: async () => (await import('./commands/rollout.ts')).addRolloutCommands },
  { names: ['proposal'], load: async () => (await import('./commands/proposal.ts')).addProposalCommands },
  { names: ['webhook'], load: async () => (await import('./commands/webhook.ts')).addWebhookCommands },
  { names: ['extension'], load: async () => (await import('./commands/extension.ts')).addExtensionCommands },
  { names: ['storm'], load: async () => (await import('./commands/storm.ts')).addStormCommands },
  { names: ['operator'], load: async () => (await import('./commands/operator.ts')).addOperatorCommands },
  { names: ['login'], load: async () => (await import('./commands/login.ts')).addLoginCommand },
  {
    names: ['context', 'logout', 'whoami'],
    load: async () => (await import('./commands/context.ts')).addContextCommands,
  },
  { names: ['complete'], load: async () => (await import('./commands/completion.ts')).addCompletionCommands },
]

/**
 * Adds the commands that this command line can be about: those of its first word's file, or all of them where it has none that is known, for the
 * help and for "did you mean". All files together are a hundred modules, which every command would wait for.
 */
export async function addCommands(
  program: Command,
  context: Context,
  argv: readonly string[],
): Promise<void> {
  const name = firstWord(program, argv)
  const own = commandFiles.filter(({ names }) => name !== undefined && names.includes(name))
  const wanted = own.length === 0 ? commandFiles : own
  for (const add of await Promise.all(wanted.map(({ load }) => load()))) add(program, context)
}

/** The first word that is neither a flag of `pawl` itself nor what such a flag takes. */
function firstWord(program: Command, argv: readonly string[]): string | undefined {
  for (let index = 0; index < argv.length; index += 1) {
    const word = argv[index] ?? ''
    if (!word.startsWith('-')) return word
    if (program.options.some(({ long, required }) => required && long === word)) index += 1
  }
  return undefined
}
