import type { Queries, Storage, Tx } from './database.ts'
import type { AutoApprovalRow, AutoApprovalSerialRow } from './machine-tables.ts'
import { statement } from './statement.ts'

/** Adds a rule with its serial numbers. */
export async function insertRule(tx: Tx, row: AutoApprovalRow, serials: readonly string[]): Promise<void> {
  await tx.insertInto('auto_approvals').values(row).execute()
  // SQLite takes 32,766 values a statement.
  for (let at = 0; at < serials.length; at += 5000) {
    const rows = serials
      .slice(at, at + 5000)
      .map((serial) => ({ rule: row.name, serial, node: null, source: null, used_at: null }))
    await tx.insertInto('auto_approval_serials').values(rows).execute()
  }
}

/** Finds a rule. */
export function findRule(db: Queries, name: string): Promise<AutoApprovalRow | undefined> {
  return db.selectFrom('auto_approvals').selectAll().where('name', '=', name).executeTakeFirst()
}

/** Finds a rule and keeps other transactions from using or changing it. */
export function lockRule(
  tx: Tx,
  dialect: Storage['dialect'],
  name: string,
): Promise<AutoApprovalRow | undefined> {
  const query = tx.selectFrom('auto_approvals').selectAll().where('name', '=', name)
  return (dialect === 'postgres' ? query.forUpdate() : query).executeTakeFirst()
}

/** Every rule, the newest first. */
export function listRules(db: Queries): Promise<AutoApprovalRow[]> {
  return db.selectFrom('auto_approvals').selectAll().orderBy('created_at', 'desc').orderBy('name').execute()
}

/** The names of the rules that have a serial number, always in one order, so that no two lock each other out. */
export async function rulesWithSerial(db: Queries, serial: string): Promise<string[]> {
  const rows = await db
    .selectFrom('auto_approval_serials')
    .select('rule')
    .where('serial', '=', serial)
    .orderBy('rule')
    .execute()
  return rows.map(({ rule }) => rule)
}

/** How many serial numbers each rule has, and how many of them are used. */
export async function countSerials(
  db: Queries,
): Promise<Map<string, { readonly serials: number; readonly used: number }>> {
  const rows = await db
    .selectFrom('auto_approval_serials')
    .select((e) => [
      'rule',
      e.fn.countAll<number | string>().as('serials'),
      e.fn.count<number | string>('node').as('used'),
    ])
    .groupBy('rule')
    .execute()
  return new Map(
    rows.map(({ rule, serials, used }) => [rule, { serials: Number(serials), used: Number(used) }]),
  )
}

/** How many machines a rule has approved. */
export async function countUsed(db: Queries, rule: string): Promise<number> {
  const { used } = await db
    .selectFrom('auto_approval_serials')
    .select((e) => e.fn.count<number | string>('node').as('used'))
    .where('rule', '=', rule)
    .executeTakeFirstOrThrow()
  return Number(used)
}

/** Whether any rule has used a serial number: each is good once, whatever rules list it. */
export async function isSerialUsed(db: Queries, serial: string): Promise<boolean> {
  const row = await db
    .selectFrom('auto_approval_serials')
    .select('rule')
    .where('serial', '=', serial)
    .where('node', 'is not', null)
    .executeTakeFirst()
  return row !== undefined
}

/** Spends a serial number; false where it was spent before. */
export async function useSerial(
  tx: Tx,
  rule: string,
  serial: string,
  by: { readonly node: string; readonly source: string; readonly now: Date },
): Promise<boolean> {
  const used = await tx
    .updateTable('auto_approval_serials')
    .set({ node: by.node, source: by.source, used_at: by.now.toISOString() })
    .where('rule', '=', rule)
    .where('serial', '=', serial)
    .where('node', 'is', null)
    .returning('serial')
    .executeTakeFirst()
  return used !== undefined
}

/** A rule's serial numbers behind `after`, in order. */
export function listSerials(
  db: Queries,
  rule: string,
  { after, limit, used }: { after?: string | undefined; limit: number; used?: boolean | undefined },
): Promise<AutoApprovalSerialRow[]> {
  let query = db.selectFrom('auto_approval_serials').selectAll().where('rule', '=', rule)
  if (after !== undefined) query = query.where('serial', '>', after)
  if (used !== undefined) query = query.where('node', used ? 'is not' : 'is', null)
  return query.orderBy('serial').limit(limit).execute()
}

/** Nodes that have one of these serial numbers. */
export async function nodesWithSerials(
  db: Queries,
  serials: readonly string[],
): Promise<{ name: string; serial: string | null }[]> {
  const found: { name: string; serial: string | null }[] = []
  for (let at = 0; at < serials.length; at += 5000) {
    const some = serials.slice(at, at + 5000)
    found.push(
      ...(await db.selectFrom('nodes').select(['name', 'serial']).where('serial', 'in', some).execute()),
    )
  }
  return found
}

/** Changes columns of a rule. */
export async function updateRule(tx: Tx, name: string, changes: Partial<AutoApprovalRow>): Promise<void> {
  await tx.updateTable('auto_approvals').set(changes).where('name', '=', name).execute()
}

/** Removes a rule with its serial numbers. */
export async function deleteRule(tx: Tx, name: string): Promise<void> {
  await tx.deleteFrom('auto_approvals').where('name', '=', name).execute()
}

/** Notes that a rule approved a node. */
export async function putRuleApproved(tx: Tx, node: string): Promise<void> {
  await tx.insertInto('rule_approved_nodes').values({ node }).execute()
}

/** Whether a rule approved a node, and no operator has confirmed it since. */
export async function isRuleApproved(db: Queries, node: string): Promise<boolean> {
  return (await ruleApproved.first(db, { node })) !== undefined
}

const ruleApproved = statement<{ node: string }>()((db, value) =>
  db.selectFrom('rule_approved_nodes').select('node').where('node', '=', value('node')),
)

/** An operator confirms a node; says whether it was one that a rule approved. */
export async function removeRuleApproved(tx: Tx, node: string): Promise<boolean> {
  const removed = await tx.deleteFrom('rule_approved_nodes').where('node', '=', node).executeTakeFirst()
  return Number(removed.numDeletedRows) > 0
}
