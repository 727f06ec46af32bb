import type { Argument, Command, Option } from 'commander'
import { eventKinds } from '../domain/event.ts'

/** What can stand at one place of a command line. */
export type Candidates =
  | { readonly kind: 'file' | 'folder' | 'anything' }
  | { readonly kind: 'words'; readonly words: readonly string[] }
  /** Names that the server knows: `pawl complete` prints them. */
  | { readonly kind: 'names'; readonly of: NameKind }

/** What `pawl complete` can print the names of, and where the API has them. */
export const nameKinds = {
  nodes: '/nodes',
  profiles: '/profiles',
  images: '/images',
  channels: '/channels',
  publishers: '/publishers',
  webhooks: '/webhooks',
  rollouts: '/rollouts',
  reinstalls: '/reinstalls',
  rules: '/auto-approvals',
  proposals: '/proposals',
  pending: '/pending',
  tokens: '/operator-tokens',
} as const
export type NameKind = keyof typeof nameKinds

/** One command as a completion sees it. */
export interface CompletedCommand {
  /** `node list`; empty for `pawl` itself. */
  readonly path: string
  readonly description: string
  readonly commands: readonly string[]
  readonly flags: readonly CompletedFlag[]
  readonly args: readonly Candidates[]
  /** The last argument may be repeated. */
  readonly variadic: boolean
}

/** A flag; `value` is what follows it, undefined where nothing does. */
export interface CompletedFlag {
  readonly names: readonly string[]
  readonly description: string
  readonly value: Candidates | undefined
}

/** Every command of the tree, each before those under it. Hidden ones are left out. */
export function completedCommands(program: Command): CompletedCommand[] {
  const globals = program.options.filter(({ long }) => long !== '--version')
  const walk = (command: Command, path: string): CompletedCommand[] => {
    const children = visibleOf(command)
    const options = command === program ? program.options : [...command.options, ...globals]
    const own: CompletedCommand = {
      path,
      description: command.description(),
      commands: children.map((child) => child.name()),
      flags: [
        ...options.map((option) => flagOf(option, path)),
        { names: ['-h', '--help'], description: 'say how it is used', value: undefined },
      ],
      args: command.registeredArguments.map((argument) => candidatesOf(argument, path)),
      variadic: command.registeredArguments.at(-1)?.variadic === true,
    }
    return [own, ...children.flatMap((child) => walk(child, `${path} ${child.name()}`.trim()))]
  }
  return walk(program, '')
}

function visibleOf(command: Command): Command[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .filter((child) => child.name() !== 'help')
}

function flagOf(option: Option, path: string): CompletedFlag {
  const names = [option.short, option.long].filter((name) => name !== undefined && name !== null)
  const value = option.required || option.optional ? valueAfter(option, path) : undefined
  return { names, description: option.description, value }
}

/** Flags that name something of the server's. Where a flag takes a pattern, nothing is offered. */
const flagNames: Readonly<Record<string, NameKind>> = {
  '--profile <P>': 'profiles',
  '--node <N>': 'nodes',
  '--dead <NAME>': 'webhooks',
}

function valueAfter({ flags, argChoices, long }: Option, path: string): Candidates {
  if (argChoices !== undefined) return { kind: 'words', words: argChoices }
  const named = flagNames[flags]
  if (named !== undefined) return { kind: 'names', of: named }
  if (long === '--kind' && /^(event|webhook) /.test(path))
    return { kind: 'words', words: Object.keys(eventKinds) }
  if (/<(FILE|F|PATH)(\|\w+)*>/.test(flags)) return { kind: 'file' }
  return { kind: /<DIR(\|\w+)*>/.test(flags) ? 'folder' : 'anything' }
}

/** What the arguments of a group's commands name, but for commands that name what is not there yet. */
const groupNames: Readonly<Record<string, NameKind>> = {
  node: 'nodes',
  profile: 'profiles',
  image: 'images',
  channel: 'channels',
  publisher: 'publishers',
  webhook: 'webhooks',
  rollout: 'rollouts',
  reinstall: 'reinstalls',
  'node auto-approve': 'rules',
  proposal: 'proposals',
  'operator token': 'tokens',
}
const otherNames: Readonly<Record<string, NameKind | undefined>> = {
  'node approve': 'pending',
  'node reject': 'pending',
  'rollout start': 'channels',
  'rollout status': 'channels',
}
const namesNew = /(^| )(add|create|publish|redeliver)$/

function candidatesOf(argument: Argument, path: string): Candidates {
  if (argument.argChoices !== undefined) return { kind: 'words', words: argument.argChoices }
  if (/file/i.test(argument.name())) return { kind: 'file' }
  const group = path.replace(/ ?\S+$/, '')
  const of = otherNames[path] ?? (namesNew.test(path) ? undefined : groupNames[group])
  // A version stands behind its channel.
  return of === undefined || argument.name() === 'version' ? { kind: 'anything' } : { kind: 'names', of }
}
