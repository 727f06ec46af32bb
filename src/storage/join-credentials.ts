import type { Queries, Tx } from './database.ts'
import type { JoinCredentialRow } from './join-tables.ts'

/** The credential of a session, if one was planned. */
export function findJoinCredential(db: Queries, session: string): Promise<JoinCredentialRow | undefined> {
  return db.selectFrom('join_credentials').selectAll().where('session', '=', session).executeTakeFirst()
}

/** Keeps a plan; where its session has one, of two who came at once one is first and the other reads what it planned. */
export async function planJoinCredential(tx: Tx, row: JoinCredentialRow): Promise<void> {
  await tx
    .insertInto('join_credentials')
    .values(row)
    .onConflict((conflict) => conflict.column('session').doNothing())
    .execute()
}

/** Takes the right to ask the cluster; false where another request has it, it was made, or nobody wants it any more. */
export async function leaseJoinCredential(
  db: Queries,
  session: string,
  asked: { readonly now: Date; readonly until: Date; readonly expiresAt: Date; readonly settings: string },
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('join_credentials')
    .set({
      state: 'called',
      call_until: asked.until.toISOString(),
      expires_at: asked.expiresAt.toISOString(),
      settings: asked.settings,
    })
    .where('session', '=', session)
    .where('state', '!=', 'made')
    .where('removal', 'is', null)
    .where((e) => e.or([e('call_until', 'is', null), e('call_until', '<=', asked.now.toISOString())]))
    .executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/** Ends a call that came to nothing. */
export async function endJoinCall(
  tx: Tx,
  session: string,
  changes: Partial<Pick<JoinCredentialRow, 'state' | 'fault' | 'handle' | 'sealed'>>,
): Promise<void> {
  await tx
    .updateTable('join_credentials')
    .set({ ...changes, call_until: null })
    .where('session', '=', session)
    .execute()
}

/** The node gets it; false where nobody wants it any more, or another call than this one is under way. */
export async function takeJoinCredential(
  tx: Tx,
  of: { readonly session: string; readonly handle: string; readonly until: Date; readonly now: Date },
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('join_credentials')
    .set({ state: 'made', made_at: of.now.toISOString(), call_until: null, fault: null })
    .where('session', '=', of.session)
    .where('handle', '=', of.handle)
    .where('state', '=', 'called')
    .where('call_until', '=', of.until.toISOString())
    .where('removal', 'is', null)
    .executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/** Says that the credential of a session is to go; false where there is none, or it was said before. */
export async function dropJoinCredential(
  tx: Tx,
  session: string,
  removal: string,
  now: Date,
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('join_credentials')
    .set({ removal, remove_at: now.toISOString() })
    .where('session', '=', session)
    .where('removal', 'is', null)
    .executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

/** Sessions that are over, or gone, whose credentials nobody has said are to go. */
export async function listForgottenCredentials(db: Queries, limit: number): Promise<string[]> {
  const rows = await db
    .selectFrom('join_credentials')
    .leftJoin('sessions', 'sessions.id', 'join_credentials.session')
    .select('join_credentials.session')
    .where('join_credentials.removal', 'is', null)
    .where((e) => e.or([e('sessions.id', 'is', null), e('sessions.ended_at', 'is not', null)]))
    .limit(limit)
    .execute()
  return rows.map(({ session }) => session)
}

/** Those whose removal is due, the longest due first. */
export function listCredentialsToRemove(db: Queries, now: Date, limit: number): Promise<JoinCredentialRow[]> {
  return db
    .selectFrom('join_credentials')
    .selectAll()
    .where('remove_at', '<=', now.toISOString())
    .orderBy('remove_at')
    .limit(limit)
    .execute()
}

/** Takes the removal of one for this process, until `again`; false where another has it. */
export async function claimRemoval(
  db: Queries,
  { session, remove_at, removal_tries }: JoinCredentialRow,
  again: Date,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('join_credentials')
    .set({ remove_at: again.toISOString(), removal_tries: removal_tries + 1 })
    .where('session', '=', session)
    .where('remove_at', '=', remove_at)
    .executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/** Forgets one that is gone; false where another process was first. */
export async function forgetJoinCredential(tx: Tx, session: string): Promise<boolean> {
  const { numDeletedRows } = await tx
    .deleteFrom('join_credentials')
    .where('session', '=', session)
    .where('removal', 'is not', null)
    .executeTakeFirstOrThrow()
  return numDeletedRows === 1n
}
