import type { Command } from 'commander'
import { isPawlError, PawlError } from '../../errors.ts'
import type { Whoami } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { chosenContext, readContexts, type StoredContext, writeContexts } from '../contexts.ts'
import { withExamples } from '../examples.ts'
import { formatTime } from '../format.ts'

/** Adds `pawl logout`, `pawl whoami` and `pawl context …`. */
export function addContextCommands(program: Command, context: Context): void {
  addLogout(program, context)
  addWhoami(program, context)
  const group = program.command('context').description('Servers that pawl login knows.')
  addContextList(group, context)
  addContextUse(group, context)
}

function addLogout(program: Command, context: Context): void {
  const command = program
    .command('logout')
    .description('Forget a server. A token that pawl login got for a person is taken back.')
    .action(async () => {
      const { env } = context.io
      const chosen = chosenContext(env, context.flags().context)
      if (chosen === undefined) throw new PawlError('usage', 'there is no context to forget')
      const left = await endThere(context, chosen)
      const { current, contexts } = readContexts(env)
      const { [chosen.name]: _, ...others } = contexts
      writeContexts(env, { current: current === chosen.name ? null : current, contexts: others })
      answer(context, { context: chosen.name, revoked: left === undefined }, () =>
        context.output.line(`context ${chosen.name} is forgotten`),
      )
      if (left !== undefined) context.output.warning(left)
    })
  withExamples(command, ['pawl logout', 'pawl logout --context ci'])
}

/** Takes a person's token back at the server; else says what stays good there. */
async function endThere(
  context: Context,
  { name, context: { token, cert } }: { name: string; context: StoredContext },
): Promise<string | undefined> {
  if (token === undefined)
    return cert === undefined ? undefined : 'the certificate stays good until it is revoked'
  const asked: Context = { ...context, flags: () => ({ context: name }) }
  try {
    await withApi(asked, (api) => api.post('/logout'))
    return undefined
  } catch (error) {
    if (isPawlError(error, 'unauthenticated')) return undefined // it opens nothing any more
    if (isPawlError(error, 'conflict')) return 'the token stays good until it is revoked: an admin made it'
    if (isPawlError(error, 'unreachable'))
      return `the token stays good until it expires or is revoked: ${error.message}`
    throw error
  }
}

function addWhoami(program: Command, context: Context): void {
  const command = program
    .command('whoami')
    .description('Who one is at the server, and by what.')
    .action(() =>
      withApi(context, async (api, { url }) => {
        const whoami = await api.get<Whoami>('/whoami')
        answer(context, whoami, () =>
          context.output.fields([
            { name: 'name', value: whoami.name },
            { name: 'role', value: whoami.role },
            ...(whoami.scope === null ? [] : [{ name: 'scope', value: whoami.scope }]),
            { name: 'by', value: whoami.how },
            {
              name: 'until',
              value: whoami.expiresAt === null ? 'it is revoked' : formatTime(whoami.expiresAt),
            },
            { name: 'server', value: url },
          ]),
        )
      }),
    )
  withExamples(command, ['pawl whoami'])
}

function addContextList(group: Command, context: Context): void {
  const command = group
    .command('list')
    .description('Servers by name; the current one has a star.')
    .action(() => {
      const { current, contexts } = readContexts(context.io.env)
      const items = Object.entries(contexts)
        .map(([name, { url, token }]) => ({
          name,
          url,
          by: token === undefined ? 'certificate' : 'token',
          current: name === current,
        }))
        .sort((a, b) => (a.name < b.name ? -1 : 1))
      answer(context, { items }, () => {
        if (items.length === 0) return context.output.note('no contexts')
        context.output.table(
          [
            { title: 'NAME', min: 8 },
            { title: 'URL', min: 20 },
            { title: 'BY', min: 5 },
          ],
          items.map((one) => [one.current ? `${one.name} *` : one.name, one.url, one.by]),
        )
      })
    })
  withExamples(command, ['pawl context list'])
}

function addContextUse(group: Command, context: Context): void {
  const command = group
    .command('use')
    .description('Make one the current one.')
    .argument('<name>', 'the context')
    .action((name: string) => {
      const { env } = context.io
      chosenContext(env, name)
      writeContexts(env, { ...readContexts(env), current: name })
      answer(context, { current: name }, () => context.output.line(`${name} is the current context`))
    })
  withExamples(command, ['pawl context use boot.example.com:8444'])
}
