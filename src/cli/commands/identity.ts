import type { Command } from 'commander'
import type { IdentityView, NodeIdentityView } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatTime } from '../format.ts'
import { toned } from '../text.ts'

/** Adds `pawl identity`. */
export function addIdentityCommands(program: Command, context: Context): void {
  const identity = program
    .command('identity')
    .description('The identity documents of nodes: their issuer, their keys, and who has one.')
  addKeys(identity, context)
  addRotate(identity, context)
  addShow(identity, context)
}

function addKeys(identity: Command, context: Context): void {
  const command = identity
    .command('keys')
    .description('The issuer, and the keys that sign identity documents.')
    .option('--jwks', 'print them as a JWK Set, as it is published')
    .action(({ jwks }: { jwks?: true }) =>
      withApi(context, async (api) => {
        const view = await api.get<IdentityView>('/identity')
        answer(context, view, () => {
          if (jwks === true)
            context.output.line(JSON.stringify({ keys: view.keys.map(({ jwk }) => jwk) }, undefined, 2))
          else showKeys(context, view)
        })
      }),
    )
  withExamples(command, ['pawl identity keys', 'pawl identity keys --jwks > jwks.json'])
}

function addRotate(identity: Command, context: Context): void {
  const command = identity
    .command('rotate')
    .description(
      'Make the next key: it is published at once and signs later; the old one stays until all it signed has ended.',
    )
    .option('--compromised', 'it signs at once; all others are withdrawn with all they signed')
    .option('--yes', 'withdraw them')
    .action(({ compromised, yes }: { compromised?: true; yes?: true }) =>
      withApi(context, async (api) => {
        if (compromised === true && yes !== true) {
          const view = await api.get<IdentityView>('/identity')
          answer(context, { ...view, done: false }, () => {
            context.output.line(
              `${count(view.keys.length, 'key')} would be withdrawn, and every document under them is worth nothing then:`,
            )
            showKeys(context, view)
            context.output.note('nothing was done: say --yes to do it')
          })
          return
        }
        const body = compromised === true ? { compromised } : {}
        const view = await api.post<IdentityView>('/identity/rotate', body)
        answer(context, { ...view, done: true }, () => showKeys(context, view))
      }),
    )
  withExamples(command, ['pawl identity rotate', 'pawl identity rotate --compromised --yes'])
}

function addShow(identity: Command, context: Context): void {
  const command = identity
    .command('show <NODE>')
    .description('The identity keys that boots of a node registered, and what was given out.')
    .action((node: string) =>
      withApi(context, async (api) => {
        const path = `/nodes/${encodeURIComponent(node)}/identities`
        const { items } = await api.get<{ items: NodeIdentityView[] }>(path)
        answer(context, { items }, () => showIdentities(context, items))
      }),
    )
  withExamples(command, ['pawl identity show node1'])
}

function showKeys({ output }: Context, { issuer, keys }: IdentityView): void {
  output.fields([{ name: 'issuer', value: issuer }])
  output.table(
    [{ title: 'KEY', min: 43 }, { title: 'STATE' }, { title: 'SIGNS FROM' }, { title: 'PUBLISHED UNTIL' }],
    keys.map(({ kid, state, signsFrom, endsAt }) => [
      kid,
      toned(state === 'signs' ? 'good' : 'plain', state),
      formatTime(signsFrom),
      endsAt === null ? '-' : formatTime(endsAt),
    ]),
  )
}

function showIdentities({ output }: Context, items: readonly NodeIdentityView[]): void {
  if (items.length === 0) {
    output.note('no boot of this node registered a key')
    return
  }
  output.table(
    [
      { title: 'KEY', min: 43 },
      { title: 'OF' },
      { title: 'SINCE' },
      { title: 'DOCUMENTS' },
      { title: 'GOOD UNTIL' },
      { title: 'FOR' },
    ],
    items.map(({ thumbprint, current, registeredAt, issued, issuedUntil, audiences }) => [
      thumbprint,
      current ? 'the last boot' : 'an earlier boot',
      formatTime(registeredAt),
      String(issued),
      issuedUntil === null ? '-' : formatTime(issuedUntil),
      audiences.join(' '),
    ]),
  )
}
