import { Argument, type Command } from 'commander'
import type { Api } from '../api.ts'
import { completedCommands, type NameKind, nameKinds } from '../completion.ts'
import { completionScript, type Shell, shells } from '../completion-scripts.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'

/** Adds `pawl completion`, and `pawl complete` for the scripts that it makes. */
export function addCompletionCommands(program: Command, context: Context): void {
  const completion = program
    .command('completion')
    .description('Print the script that completes commands, flags and names in a shell.')
    .addArgument(new Argument('<shell>', 'the shell').choices(shells))
    .action((shell: Shell) => {
      const script = completionScript(shell, completedCommands(program))
      answer(context, { shell, script }, () => {
        for (const line of script.trimEnd().split('\n')) context.output.line(line)
      })
    })
  withExamples(completion, [
    'source <(pawl completion bash)',
    'pawl completion bash > /etc/bash_completion.d/pawl',
    'pawl completion zsh > ~/.zfunc/_pawl',
    'pawl completion fish > ~/.config/fish/completions/pawl.fish',
  ])
  const complete = program
    .command('complete', { hidden: true })
    .description('Print the names that a completion offers, one a line. It says nothing of what goes wrong.')
    .addArgument(new Argument('<what>', 'whose names').choices(Object.keys(nameKinds)))
    .argument('[prefix]', 'only those that begin so')
    .action(async (what: NameKind, prefix = '') => {
      const items = await namesWithin(context, what, prefix)
      answer(context, { items }, () => {
        for (const name of items) context.output.line(name)
      })
    })
  withExamples(complete, ['pawl complete nodes mlab'])
}

const patienceMilliseconds = 3000
const maxNames = 1000
/** What no shell reads as more than a word, whoever answered. */
const plainName = /^[A-Za-z0-9][A-Za-z0-9._@/+-]*$/

/** Someone waits with a finger on the tab key: what does not come soon, or not at all, is nothing. */
async function namesWithin(context: Context, what: NameKind, prefix: string): Promise<string[]> {
  let timer: NodeJS.Timeout | undefined
  const patience = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('too late')), patienceMilliseconds)
  })
  try {
    const names = await withApi(context, (api) => Promise.race([namesOf(api, what, prefix), patience]))
    return names.filter((name) => name.startsWith(prefix) && plainName.test(name)).slice(0, maxNames)
  } catch {
    return []
  } finally {
    clearTimeout(timer)
  }
}

async function namesOf(api: Api, what: NameKind, prefix: string): Promise<string[]> {
  // Nodes come by name, a thousand at a time: those before the prefix are passed over.
  const query = { limit: maxNames, ...(what === 'nodes' ? { after: justBefore(prefix) } : {}) }
  const { items } = await api.get<{ items: readonly Readonly<Record<string, unknown>>[] }>(
    nameKinds[what],
    query,
  )
  return items.map((item) => nameOf(what, item))
}

/** What is told apart by an id, not by a name. */
const byId: ReadonlySet<NameKind> = new Set(['rollouts', 'reinstalls', 'proposals', 'tokens'])

function nameOf(what: NameKind, item: Readonly<Record<string, unknown>>): string {
  if (what === 'images') return String(item.ref)
  if (what === 'channels') return String(item.channel)
  if (what === 'pending') return String(item.code)
  return String(byId.has(what) ? item.id : item.name)
}

/** A text that sorts before every name with the prefix, and behind nearly all names before those. */
function justBefore(prefix: string): string | undefined {
  const last = prefix.charCodeAt(prefix.length - 1)
  return /^[a-z0-9.-]+$/.test(prefix) ? `${prefix.slice(0, -1)}${String.fromCharCode(last - 1)}~` : undefined
}
