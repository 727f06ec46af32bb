import { type EventKind, systemChain } from '../domain/event.ts'
import type { Queries } from '../storage/database.ts'
import { listChainChanges, listNodeChanges } from '../storage/fleet-files.ts'
import type { EventRow } from '../storage/tables.ts'
import type { FieldChange, PlannedChange } from './fleet-plan.ts'

/** Of how many nodes it is looked up who changed them by hand; of more, only that they were. */
const maxNodes = 500

type Who = NonNullable<FieldChange['changedBy']>
type Find = (name: string, field: string) => Who | null

/**
 * The changes, each field that is not as the files left it with who changed it, as far as the event log tells. `upTo` is
 * the system chain's end before this transaction put something on it.
 */
export async function withAuthors(
  db: Queries,
  changes: readonly PlannedChange[],
  upTo: number,
): Promise<PlannedChange[]> {
  const drifted = changes.filter(({ fields }) => fields.some((field) => field.drifted))
  if (drifted.length === 0) return [...changes]
  const of = (kind: PlannedChange['kind']): string[] =>
    drifted.filter((one) => one.kind === kind).map(({ name }) => name)
  const find: Readonly<Record<PlannedChange['kind'], Find>> = {
    node: await nodeAuthors(db, of('node').slice(0, maxNodes)),
    profile: of('profile').length === 0 ? nobody : await profileAuthors(db, upTo),
    channel: of('channel').length === 0 ? nobody : await channelAuthors(db, upTo),
    extension: of('extension').length === 0 ? nobody : await extensionAuthors(db, upTo),
  }
  return changes.map((change) => ({
    ...change,
    fields: change.fields.map((field) =>
      field.drifted ? { ...field, changedBy: find[change.kind](change.name, field.field) } : field,
    ),
  }))
}

const nobody: Find = () => null

async function nodeAuthors(db: Queries, names: readonly string[]): Promise<Find> {
  const rows = await listNodeChanges(db, names, ['node-changed', 'node-added', 'machine-approved'])
  const byNode = Map.groupBy(rows, (row) => row.node)
  return (name, field) => {
    const [key = ''] = field.split('.')
    return whoOf(
      byNode.get(name)?.find(({ kind, detail }) => kind !== 'node-changed' || key in afterOf(detail)),
    )
  }
}

const profileAuthors = (db: Queries, upTo: number): Promise<Find> =>
  documentAuthors(db, upTo, { kind: 'profile-applied', named: 'profile' })

const extensionAuthors = (db: Queries, upTo: number): Promise<Find> =>
  documentAuthors(db, upTo, { kind: 'extension-applied', named: 'operation' })

/** Of what is applied as a whole: the event has all of it, before and after. */
async function documentAuthors(
  db: Queries,
  upTo: number,
  { kind, named }: { readonly kind: EventKind; readonly named: string },
): Promise<Find> {
  const rows = await listChainChanges(db, systemChain, [kind], upTo)
  return (name, field) => {
    const [key = ''] = field.split('.')
    return whoOf(
      rows.find(({ detail }) => {
        const { before, after, ...event } = JSON.parse(detail) as Record<
          string,
          Record<string, unknown> | null
        >
        return String(event[named]) === name && JSON.stringify(before?.[key]) !== JSON.stringify(after?.[key])
      }),
    )
  }
}

async function channelAuthors(db: Queries, upTo: number): Promise<Find> {
  const rows = await listChainChanges(
    db,
    systemChain,
    ['channel-moved', 'channel-protected', 'rollout-completed'],
    upTo,
  )
  return (name, field) =>
    whoOf(
      rows.find(
        ({ kind, detail }) =>
          (kind === 'channel-protected') === (field !== 'version') &&
          (JSON.parse(detail) as { channel?: unknown }).channel === name,
      ),
    )
}

function afterOf(detail: string): object {
  return (JSON.parse(detail) as { after?: object }).after ?? {} // our own column
}

function whoOf(row: EventRow | undefined): Who | null {
  return row === undefined ? null : { actor: row.actor, at: row.at }
}
