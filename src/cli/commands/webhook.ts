import type { Command } from 'commander'
import { parseWebhookName } from '../../domain/webhook.ts'
import { PawlError } from '../../errors.ts'
import type { IssuedWebhook, PingAnswer, WebhookView } from '../answers.ts'
import { readCertificates } from '../certificate-file.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { readLine } from '../stdin.ts'
import { toned } from '../text.ts'
import { argument, collect, ifRevision, type RevisionFlag, webhookPath } from '../values.ts'
import { addDeliveryCommands } from './webhook-deliveries.ts'
import { addWebhookShowCommands } from './webhook-show.ts'

interface SettingsFlags {
  readonly url?: string
  readonly kind?: readonly string[]
  readonly node?: string
  readonly ca?: string
}

/** Adds `pawl webhook …`. */
export function addWebhookCommands(program: Command, context: Context): void {
  const webhook = program.command('webhook').description('Events sent to your own services.')
  addCreate(webhook, context)
  addSet(webhook, context)
  addWebhookShowCommands(webhook, context)
  addRemove(webhook, context)
  addEnable(webhook, context)
  addDisable(webhook, context)
  addTest(webhook, context)
  addRotate(webhook, context)
  addDeliveryCommands(webhook, context)
}

function settingsFlags(command: Command): Command {
  return command
    .option('--url <URL>', 'where events are sent; - reads it from stdin, where it holds a secret')
    .option('--kind <K>', 'a kind of event, "session-*" or "*"; may be repeated', collect)
    .option('--node <GLOB>', 'only events about nodes with such a name')
    .option('--ca <FILE>', "the receiver's root certificates (PEM); without it, the system's")
}

function addCreate(webhook: Command, context: Context): void {
  const command = settingsFlags(
    webhook
      .command('create')
      .description('Send events to a receiver from now on, signed. The secret is shown this once.')
      .requiredOption('--name <N>', 'its name'),
  ).action((flags: SettingsFlags & { name: string }) =>
    withApi(context, async (api) => {
      if (flags.url === undefined) throw missing('--url')
      if (flags.kind === undefined) throw missing('--kind')
      const name = argument(flags.name, parseWebhookName)
      const made = await api.create<IssuedWebhook>('/webhooks', {
        name,
        ...(await settingsOf(flags, context)),
      })
      showSecret(context, made)
    }),
  )
  withExamples(command, [
    'pawl webhook create --name chat --url https://h.example.com --kind refused',
    "pawl webhook create --name all --url - --kind '*' --ca ca.crt < url.txt",
  ])
}

function missing(flag: string): PawlError {
  return new PawlError('usage', `required option '${flag}' not specified`, {
    hint: 'see pawl webhook create --help',
  })
}

function addSet(webhook: Command, context: Context): void {
  const command = settingsFlags(
    webhook
      .command('set')
      .description(
        'Change what is given and nothing else. Kinds replace the whole list; an empty value clears (--node "").',
      )
      .argument('<name>', 'the webhook')
      .addOption(ifRevision()),
  ).action((name: string, { ifRevision: revision, ...flags }: SettingsFlags & RevisionFlag) =>
    withApi(context, async (api) => {
      const changes = await settingsOf(flags, context)
      if (Object.keys(changes).length === 0) {
        throw new PawlError('usage', `nothing to change of "${name}" was given`, {
          hint: 'see pawl webhook set --help',
        })
      }
      const changed = await api.patch<WebhookView>(webhookPath(name), changes, { revision })
      answer(context, changed, () => context.output.line(`webhook "${changed.name}" changed`))
    }),
  )
  withExamples(command, [
    "pawl webhook set chat --kind refused --kind 'rollout-*'",
    'pawl webhook set site1 --node ""',
  ])
}

async function settingsOf({ url, kind, node, ca }: SettingsFlags, { io }: Context): Promise<object> {
  return {
    ...(url === undefined ? {} : { url: url === '-' ? await readLine(io.stdin, 'URL') : url }),
    ...(kind === undefined ? {} : { kinds: kind }),
    ...(node === undefined ? {} : { node: node === '' ? null : node }),
    ...(ca === undefined ? {} : { ca: ca === '' ? null : readCertificates(ca) }),
  }
}

function showSecret(context: Context, issued: IssuedWebhook): void {
  answer(context, issued, () => context.output.line(issued.secret))
  context.output.note(`secret of webhook "${issued.name}", shown this once`)
}

function addRemove(webhook: Command, context: Context): void {
  const command = webhook
    .command('remove')
    .description('Send nothing more, and forget what waits.')
    .argument('<name>', 'the webhook')
    .addOption(ifRevision())
    .action((name: string, { ifRevision: revision }: RevisionFlag) =>
      withApi(context, async (api) => {
        await api.delete(webhookPath(name), { revision })
        answer(context, { name, removed: true }, () => context.output.line(`webhook "${name}" removed`))
      }),
    )
  withExamples(command, ['pawl webhook remove chat'])
}

function addEnable(webhook: Command, context: Context): void {
  const command = webhook
    .command('enable')
    .description('Send again, from where it stopped.')
    .argument('<name>', 'the webhook')
    .option('--from-now', 'only what happens from now on: what waited is forgotten')
    .action((name: string, { fromNow }: { fromNow?: true }) =>
      withApi(context, async (api) => {
        const body = fromNow === true ? { fromNow } : undefined
        const changed = await api.post<WebhookView>(`${webhookPath(name)}/enable`, body)
        answer(context, changed, () => context.output.line(`webhook "${changed.name}" enabled`))
      }),
    )
  withExamples(command, ['pawl webhook enable chat', 'pawl webhook enable chat --from-now'])
}

function addDisable(webhook: Command, context: Context): void {
  const command = webhook
    .command('disable')
    .description('Send nothing until it is enabled. Events wait meanwhile.')
    .argument('<name>', 'the webhook')
    .action((name: string) =>
      withApi(context, async (api) => {
        const changed = await api.post<WebhookView>(`${webhookPath(name)}/disable`)
        answer(context, changed, () => context.output.line(`webhook "${changed.name}" disabled`))
      }),
    )
  withExamples(command, ['pawl webhook disable chat'])
}

function addTest(webhook: Command, context: Context): void {
  const command = webhook
    .command('test')
    .description('Send a ping now, once, and show the answer. Exits 1 where the receiver did not take it.')
    .argument('<name>', 'the webhook')
    .action((name: string) =>
      withApi(context, async (api) => {
        const ping = await api.post<PingAnswer>(`${webhookPath(name)}/test`)
        answer(context, ping, () => showPing(context, ping))
        if (ping.ok) return
        throw new PawlError(
          'conflict',
          `the receiver of webhook "${name}" did not take the ping: ${reasonOf(ping)}`,
        )
      }),
    )
  withExamples(command, ['pawl webhook test chat'])
}

function reasonOf({ status, reason }: PingAnswer): string {
  if (status === null) return reason ?? 'no answer'
  return reason === null ? `status ${status}` : `status ${status}, ${reason}`
}

function showPing({ output }: Context, ping: PingAnswer): void {
  if (ping.status === null) return
  const tone = ping.ok ? 'good' : 'bad'
  output.line(toned(tone, String(ping.status)), ` in ${ping.milliseconds} ms`)
  if (ping.body === null) {
    output.note('what else was answered is shown to admins only: it may repeat the URL')
    return
  }
  const lines = ping.body.split('\n').filter((line) => line.trim() !== '')
  for (const line of lines.slice(0, 10)) output.line(toned('dim', '  '), line.slice(0, 200))
}

function addRotate(webhook: Command, context: Context): void {
  const command = webhook
    .command('rotate-secret')
    .description('Make a new secret, shown this once. The one before signs too for 24 hours.')
    .argument('<name>', 'the webhook')
    .option('--at-once', 'the one before signs nothing more: it is known to others')
    .action((name: string, { atOnce }: { atOnce?: true }) =>
      withApi(context, async (api) => {
        const body = atOnce === true ? { atOnce } : undefined
        showSecret(context, await api.post<IssuedWebhook>(`${webhookPath(name)}/rotate-secret`, body))
      }),
    )
  withExamples(command, ['pawl webhook rotate-secret chat', 'pawl webhook rotate-secret chat --at-once'])
}
