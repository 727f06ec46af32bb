import { type Command, Option } from 'commander'
import { type NodeState, nodeTransitions, reinstallTransitions } from '../../domain/state.ts'
import type { NodeView, PaceView, Timeline } from '../answers.ts'
import type { Api } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import type { Column, Field } from '../table.ts'
import { type Piece, type Tone, toned } from '../text.ts'
import { collect, nodePath } from '../values.ts'
import { leavingFields } from './node-leave.ts'

interface ListFlags {
  readonly state?: string
  readonly label?: readonly string[]
  readonly profile?: string
  readonly match?: string
  readonly reinstall?: string
}

/** Adds `pawl node list` and `pawl node show`. */
export function addNodeShowCommands(node: Command, context: Context): void {
  const list = node
    .command('list')
    .description('Nodes by name, with how far the latest boot of each came.')
    .addOption(new Option('--state <S>', 'only nodes in this state').choices(Object.keys(nodeTransitions)))
    .option('--label <K=V>', 'only nodes with this label; may be repeated, each must be there', collect)
    .option('--profile <P>', 'only nodes that boot this profile')
    .option('--match <GLOB>', 'only nodes of these names: * for any characters, ? for one')
    .addOption(
      new Option('--reinstall <MARK>', 'only nodes with this reinstall mark').choices(
        Object.keys(reinstallTransitions),
      ),
    )
    .action((flags: ListFlags) =>
      withApi(context, async (api) => {
        const items = await allNodes(api, flags)
        answer(context, { items, next: null }, () => showList(context, items))
      }),
    )
  withExamples(list, [
    'pawl node list',
    'pawl node list --state failed --label site=lga',
    "pawl node list --match 'mlab?.lga*' --reinstall marked",
  ])
  const show = node
    .command('show')
    .description('All about one node.')
    .argument('<name>', 'the node')
    .action((name: string) =>
      withApi(context, async (api) => {
        const found = await api.get<NodeView>(nodePath(name))
        const isLate = found.pace === 'slow' || found.pace === 'stuck'
        // Why is looked up when it is asked for: it costs the server some questions.
        const why =
          isLate && !context.flags().json
            ? (await api.get<Timeline>(`${nodePath(name)}/timeline`)).session?.pace
            : null
        answer(context, found, () => context.output.fields(fieldsOf(found, why, context.io.now())))
      }),
    )
  withExamples(show, ['pawl node show mlab1', 'pawl node show mlab1 --json'])
}

/** Every node that is meant. */
export async function allNodes(api: Api, flags: ListFlags): Promise<NodeView[]> {
  return [...(await wholeList<NodeView>(api, '/nodes', { ...flags })).items]
}

const tones: Readonly<Partial<Record<NodeState, Tone>>> = {
  booting: 'warn',
  ready: 'good',
  failed: 'bad',
  held: 'bad',
  disabled: 'dim',
}

/** A node's state in its colour. */
export function stateOf({ state }: Pick<NodeView, 'state'>): Piece {
  return toned(tones[state] ?? 'plain', state)
}

/** The same with what ails it, for a table: `booting, stuck`, `failed, loops`. */
export function stateWithPace(node: Pick<NodeView, 'state' | 'pace' | 'looping'>): Piece {
  const marks = [
    ...(node.pace === 'slow' || node.pace === 'stuck' ? [node.pace] : []),
    ...(node.looping === null ? [] : ['loops']),
  ]
  if (marks.length === 0) return stateOf(node)
  const isBad = node.looping !== null || node.pace === 'stuck' || tones[node.state] === 'bad'
  return toned(isBad ? 'bad' : 'warn', [node.state, ...marks].join(', '))
}

/** The columns of a table of nodes. */
export const nodeColumns: readonly Column[] = [
  { title: 'NAME', min: 12 },
  { title: 'STATE', min: 10 },
  { title: 'PROFILE', drop: 2 },
  { title: 'REINSTALL', min: 9, drop: 3 },
  { title: 'LAST BOOT', min: 9, drop: 1 },
  { title: 'STAGE', min: 6, drop: 5 },
  { title: 'AGO', align: 'right', min: 6, drop: 4 },
]

/** A node as a row of it. */
export function nodeRow(node: NodeView, now: Date): Piece[] {
  return [
    node.name,
    stateWithPace(node),
    node.profile ?? '-',
    markOf(node),
    node.session?.sequence ?? '-',
    node.session?.stage ?? '-',
    node.session === null ? '-' : formatAge(node.session.startedAt, now),
  ]
}

function showList({ output, io }: Context, nodes: readonly NodeView[]): void {
  if (nodes.length === 0) {
    output.note('no nodes')
    return
  }
  const now = io.now()
  const rows = nodes.map((node) => nodeRow(node, now))
  // Rare, and worth its room when it is so.
  if (nodes.every(({ waiting }) => waiting === null)) {
    output.table(nodeColumns, rows)
    return
  }
  const waits = nodes.map(({ waiting }) =>
    waiting === null
      ? '-'
      : toned(
          'warn',
          `${waiting.request}, ${formatAge(waiting.since, now)}${waiting.why === null ? '' : `: ${waiting.why}`}`,
        ),
  )
  output.table(
    [...nodeColumns, { title: 'WAITS', min: 6 }],
    rows.map((row, at) => [...row, waits[at] ?? '-']),
  )
}

/** How the boot under way comes along, where it is slower than usual. */
export function paceFields(pace: PaceView | null | undefined): Field[] {
  if (pace == null || pace.state === 'usual') return []
  const tone = pace.state === 'stuck' ? 'bad' : 'warn'
  return [
    {
      name: 'pace',
      value: toned(
        tone,
        `${pace.state} since ${formatTime(pace.since)}: ${pace.reason ?? 'no reason is known'}`,
      ),
    },
    ...(pace.hint === null ? [] : [{ name: '', value: pace.hint }]),
  ]
}

function loopingFields({ name, looping }: NodeView): Field[] {
  if (looping === null) return []
  const { since, heldBackUntil } = looping
  const until = heldBackUntil === null ? '' : `, served again from ${formatTime(heldBackUntil)} on`
  return [
    {
      name: 'looping',
      value: toned('bad', `since ${formatTime(since)}: it boots again and again without a report${until}`),
    },
    { name: '', value: `once it is mended: pawl node enable ${name}` },
  ]
}

/** What an overloaded server told it, or what its join waits for. */
function waitingFields({ waiting }: NodeView): Field[] {
  if (waiting === null) return []
  const { request, source, since, times, until, why } = waiting
  const often = times === 1 ? 'once' : `${times} times`
  const said = `told ${often} to come again`
  return [
    {
      name: 'waiting',
      value: toned(
        'warn',
        why === null
          ? `for ${request}, from ${source}: ${said}, the server is busy`
          : `its join waits: ${why}`,
      ),
    },
    {
      name: '',
      value: `since ${formatTime(since)}, ${why === null ? '' : `${said}, `}comes at about ${formatTime(until)}`,
    },
  ]
}

function fieldsOf(node: NodeView, why: PaceView | null | undefined, now: Date): Field[] {
  return [
    { name: 'name', value: toned('strong', node.name) },
    {
      name: 'state',
      value:
        node.failureCause === null ? stateOf(node) : toned('bad', `${node.state} (${node.failureCause})`),
    },
    { name: 'profile', value: node.profile ?? 'none: it cannot boot' },
    { name: 'labels', value: orNone(Object.entries(node.labels).map(([key, value]) => `${key}=${value}`)) },
    { name: 'addresses', value: orNone(node.addresses) },
    { name: 'macs', value: orNone(node.macs) },
    { name: 'uuid', value: node.uuid ?? 'none' },
    { name: 'serial', value: node.serial ?? 'none' },
    ...secretFields(node, now),
    { name: 'reinstall', value: reinstallOf(node) },
    { name: 'armed', value: node.armed ? 'yes' : 'no' },
    ...sessionFields(node),
    ...paceFields(why),
    ...loopingFields(node),
    ...waitingFields(node),
    ...(node.wireguardPublicKey === null ? [] : [{ name: 'wireguard', value: node.wireguardPublicKey }]),
    { name: 'created', value: formatTime(node.createdAt) },
    { name: 'changed', value: `${formatTime(node.updatedAt)}, revision ${node.revision}` },
    ...leavingFields(node),
  ]
}

/** A node's mark in a table: none, one, or that it waits for a place in a reinstall of many. */
function markOf({ reinstall, campaign }: NodeView): Piece {
  if (reinstall !== 'none') return toned('warn', reinstall)
  return campaign === null ? '-' : 'waits'
}

function reinstallOf({ reinstall, reinstallAttempts, campaign }: NodeView): string {
  const mark = reinstallAttempts === 0 ? reinstall : `${reinstall} (attempts: ${reinstallAttempts})`
  if (campaign === null) return mark
  return campaign.state === 'waiting' ? `waits in ${campaign.id}` : `${mark}, in ${campaign.id}`
}

function secretFields({ secret }: NodeView, now: Date): Field[] {
  const { state, id, kind, issuedAt, expiresAt, lastUsedAt, lastUsedFrom, next } = secret
  if (state !== 'issued' || id === null)
    return [{ name: 'secret', value: state === 'revoked' ? toned('bad', 'revoked') : 'none' }]
  const expired = expiresAt !== null && Date.parse(expiresAt) <= now.getTime()
  const end = expiresAt === null ? '' : `${expired ? 'expired' : 'good until'} ${formatTime(expiresAt)}`
  const used =
    lastUsedAt === null
      ? 'never used'
      : `last used ${formatTime(lastUsedAt)} from ${lastUsedFrom ?? 'unknown'}`
  return [
    { name: 'secret', value: `${id}, ${kind}${issuedAt === null ? '' : `, issued ${formatTime(issuedAt)}`}` },
    ...(end === '' ? [] : [{ name: '', value: expired ? toned('bad', end) : end }]),
    { name: '', value: used },
    ...(next === null ? [] : [{ name: '', value: nextOf(next) }]),
  ]
}

/** The secret that the node was given and has not come with yet. */
function nextOf({ id, writtenAt, fault, issuedAt }: NonNullable<NodeView['secret']['next']>): Piece {
  if (writtenAt !== null) return `next ${id}, on its medium since ${formatTime(writtenAt)}`
  if (fault !== null) return toned('bad', `next ${id}, not written: ${fault}`)
  return `next ${id}, handed out ${formatTime(issuedAt)}, not known to be written`
}

function sessionFields({ session }: NodeView): Field[] {
  if (session === null) return [{ name: 'session', value: 'none: it has not booted yet' }]
  const { id, sequence, state, stage, local, startedAt, endedAt, cause } = session
  return [
    { name: 'session', value: `${id}, ${sequence}${local ? ' from the local disk' : ''}` },
    { name: '', value: `${state}${state === stage ? '' : `, last stage ${stage}`}` },
    {
      name: '',
      value: `began ${formatTime(startedAt)}${endedAt === null ? '' : `, ended ${formatTime(endedAt)}`}`,
    },
    ...(cause === null ? [] : [{ name: '', value: toned('bad', cause) }]),
  ]
}

function orNone(values: readonly string[]): readonly string[] {
  return values.length === 0 ? ['none'] : values
}
