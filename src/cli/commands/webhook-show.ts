import type { Command } from 'commander'
import type { WebhookView } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { operatorName, type Piece, toned } from '../text.ts'
import { webhookPath } from '../values.ts'

/** Adds `pawl webhook list` and `show`. */
export function addWebhookShowCommands(webhook: Command, context: Context): void {
  const list = webhook
    .command('list')
    .description('Webhooks by name, and how they fare.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<WebhookView>(api, '/webhooks')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(list, ['pawl webhook list'])
  const show = webhook
    .command('show')
    .description('All about one webhook.')
    .argument('<name>', 'the webhook')
    .action((name: string) =>
      withApi(context, async (api) => {
        const found = await api.get<WebhookView>(webhookPath(name))
        answer(context, found, () => showOne(context, found))
      }),
    )
  withExamples(show, ['pawl webhook show chat'])
}

function showList({ output, io }: Context, webhooks: readonly WebhookView[]): void {
  if (webhooks.length === 0) {
    output.note('no webhooks')
    return
  }
  output.table(
    [
      { title: 'NAME', min: 8 },
      { title: 'STATE', min: 8 },
      { title: 'WAITING', align: 'right' },
      { title: 'DEAD', align: 'right' },
      { title: 'LAST SENT', align: 'right', min: 6, drop: 3 },
      { title: 'KINDS', min: 8, drop: 2 },
      { title: 'URL', min: 24, drop: 1 },
    ],
    webhooks.map((one) => [
      one.name,
      stateOf(one),
      String(one.waiting),
      one.dead === 0 ? '0' : toned('bad', String(one.dead)),
      one.lastDeliveredAt === null ? '-' : formatAge(one.lastDeliveredAt, io.now()),
      one.kinds.join(' '),
      one.url,
    ]),
  )
}

/** One word: how it fares. */
function stateOf({ enabled, disabledBy, failingSince, failures, unreadable }: WebhookView): Piece {
  if (unreadable) return toned('bad', 'unreadable')
  if (!enabled) return disabledBy === 'gone' ? toned('bad', 'gone') : toned('warn', 'disabled')
  if (failingSince !== null) return toned('bad', 'failing')
  return failures > 0 ? toned('warn', 'retrying') : toned('good', 'good')
}

function meaningOf(one: WebhookView): string {
  if (one.unreadable)
    return ': its URL or secret was sealed with another pki/settings.key, and nothing is sent: restore that key, or set --url and rotate-secret'
  if (one.disabledBy === 'gone')
    return ': its receiver answered 410 Gone, nothing is sent until it is enabled'
  if (!one.enabled) return ': nothing is sent until it is enabled'
  if (one.failingSince !== null) return `: nothing was taken since ${formatTime(one.failingSince)}`
  return one.failures === 0 ? '' : `: ${count(one.failures, 'try')} failed`.replace('trys', 'tries')
}

function showOne({ output, io }: Context, one: WebhookView): void {
  const state = stateOf(one)
  const word = typeof state === 'string' ? state : state.text
  output.fields([
    { name: 'webhook', value: toned('strong', one.name) },
    {
      name: 'state',
      value: toned(typeof state === 'string' ? 'plain' : state.tone, `${word}${meaningOf(one)}`),
    },
    { name: 'url', value: one.url },
    { name: 'kinds', value: one.kinds },
    ...(one.node === null ? [] : [{ name: 'nodes', value: one.node }]),
    { name: 'trusts', value: one.ca === null ? "the system's CAs" : 'the CA it was given' },
    { name: 'waiting', value: String(one.waiting) },
    { name: 'dead', value: one.dead === 0 ? '0' : toned('bad', String(one.dead)) },
    {
      name: 'last sent',
      value: one.lastDeliveredAt === null ? '-' : `${formatAge(one.lastDeliveredAt, io.now())} ago`,
    },
    ...(one.pausedUntil === null
      ? []
      : [{ name: 'paused', value: `until ${formatTime(one.pausedUntil)}: its receiver asked for it` }]),
    ...(one.previousSecretUntil === null
      ? []
      : [
          {
            name: 'secret',
            value: `the one before signs too until ${formatTime(one.previousSecretUntil)}`,
          },
        ]),
    { name: 'made', value: `${formatTime(one.createdAt)} by ${operatorName(one.createdBy)}` },
  ])
}
