import { type Command, InvalidArgumentError, Option } from 'commander'
import { parseDeliveryId } from '../../domain/webhook.ts'
import type { Page, WebhookDeliveryView } from '../answers.ts'
import { pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatAge, formatUntil } from '../format.ts'
import { type Piece, toned } from '../text.ts'
import { argument, exactlyOne, webhookPath } from '../values.ts'

/** Adds `pawl webhook deliveries` and `redeliver`. */
export function addDeliveryCommands(webhook: Command, context: Context): void {
  addDeliveries(webhook, context)
  addRedeliver(webhook, context)
}

function addDeliveries(webhook: Command, context: Context): void {
  const command = webhook
    .command('deliveries')
    .description('What is on its way to a webhook, what it took, and what it did not: the newest first.')
    .argument('<name>', 'the webhook')
    .addOption(new Option('--dead', 'only dead letters: not taken in 24 hours of tries').conflicts('waiting'))
    .option('--waiting', 'only what waits, the next to be tried first')
    .option('--limit <N>', 'at most so many (100)', parseLimit)
    .action((name: string, flags: { dead?: true; waiting?: true; limit?: number }) =>
      withApi(context, async (api) => {
        const state = flags.dead ? 'dead' : flags.waiting ? 'waiting' : undefined
        const path = `${webhookPath(name)}/deliveries`
        const page = await api.get<Page<WebhookDeliveryView, never>>(path, { state, limit: flags.limit })
        answer(context, page, () => showDeliveries(context, page.items))
      }),
    )
  withExamples(command, ['pawl webhook deliveries chat', 'pawl webhook deliveries chat --dead'])
}

function addRedeliver(webhook: Command, context: Context): void {
  const command = webhook
    .command('redeliver')
    .description('Send ended deliveries again: some by their ids, or all dead letters of a webhook.')
    .argument('[id...]', 'ids, as deliveries shows them')
    .option('--dead <NAME>', 'all dead letters of this webhook')
    .action((ids: readonly string[], { dead }: { dead?: string }) =>
      withApi(context, async (api) => {
        exactlyOne({ ID: ids.length > 0, '--dead': dead !== undefined })
        const paths =
          dead === undefined
            ? ids.map((id) => `/webhook-deliveries${pathOf(argument(id, parseDeliveryId))}/redeliver`)
            : [`${webhookPath(dead)}/redeliver-dead`]
        let redelivered = 0
        for (const path of paths) redelivered += (await api.post<{ redelivered: number }>(path)).redelivered
        answer(context, { redelivered }, () =>
          context.output.line(
            `${count(redelivered, 'delivery').replace('deliverys', 'deliveries')} sent again`,
          ),
        )
      }),
    )
  withExamples(command, [
    'pawl webhook redeliver msg_WE7TIddTx_saVEp2e2Co2j',
    'pawl webhook redeliver --dead chat',
  ])
}

function showDeliveries({ output, io }: Context, deliveries: readonly WebhookDeliveryView[]): void {
  if (deliveries.length === 0) {
    output.note('no deliveries')
    return
  }
  output.table(
    [
      { title: 'ID', min: 26 },
      { title: 'STATE', min: 9 },
      { title: 'TRIES', align: 'right', min: 5, drop: 3 },
      { title: 'LAST', min: 6, drop: 4 },
      { title: 'NEXT', align: 'right', min: 6, drop: 2 },
      { title: 'AGO', align: 'right', min: 6, drop: 2 },
      { title: 'KIND', min: 8, drop: 5 },
      { title: 'NODE', min: 12, drop: 1 },
    ],
    deliveries.map((one) => [
      one.id,
      stateOf(one),
      String(one.tries),
      one.result ?? '-',
      one.nextAt === null ? '-' : formatUntil(one.nextAt, io.now()),
      formatAge(one.createdAt, io.now()),
      one.kind,
      one.node ?? '-',
    ]),
  )
}

function stateOf({ state }: WebhookDeliveryView): Piece {
  return toned(state === 'delivered' ? 'good' : state === 'dead' ? 'bad' : 'plain', state)
}

function parseLimit(text: string): number {
  if (/^[1-9]\d{0,2}$|^1000$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number from 1 to 1000.')
}
