import { sql } from 'kysely'
import type { BackendFault } from '../domain/join-credential.ts'
import type { Queries, Tx } from './database.ts'
import type { JoinCredentialRow } from './join-tables.ts'

/** The credential of a session, if one was planned. */
export function findJoinCredential(db: Queries, session: string): Promise<JoinCredentialRow | undefined> {
  return db.selectFrom('join_credentials').selectAll().where('session', '=', session).executeTakeFirst()
}

/** Keeps a plan. The caller has locked the session's node: there is none yet. */
export async function planJoinCredential(tx: Tx, row: JoinCredentialRow): Promise<void> {
  await tx.insertInto('join_credentials').values(row).execute()
}

/** What a plan was read as: another request that has called since is seen by it. */
export type PlanAsRead = Pick<JoinCredentialRow, 'session' | 'handle' | 'state'>

/** Takes the right to ask the cluster; false where another request has it, has had it since, or nobody wants it any more. */
export async function leaseJoinCredential(
  tx: Tx,
  { session, handle, state }: PlanAsRead,
  asked: {
    readonly now: Date
    readonly until: Date
    readonly expiresAt: Date
    readonly settings: string
    readonly sealed: string
  },
): Promise<boolean> {
  if (state === 'made') return false
  const { numUpdatedRows } = await tx
    .updateTable('join_credentials')
    .set({
      state: 'called',
      call_until: asked.until.toISOString(),
      expires_at: asked.expiresAt.toISOString(),
      settings: asked.settings,
      sealed: asked.sealed,
    })
    .where('session', '=', session)
    .where('handle', '=', handle)
    .where('state', '=', state)
    .where('removal', 'is', null)
    .where((e) => e.or([e('call_until', 'is', null), e('call_until', '<=', asked.now.toISOString())]))
    .executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/** Ends a call that came to nothing, unless its time was over and another has begun. */
export async function endJoinCall(
  tx: Tx,
  of: { readonly session: string; readonly until: Date },
  changes: Partial<Pick<JoinCredentialRow, 'state' | 'handle' | 'sealed'>>,
): Promise<void> {
  await tx
    .updateTable('join_credentials')
    .set({ ...changes, call_until: null })
    .where('session', '=', of.session)
    .where('state', '=', 'called')
    .where('call_until', '=', of.until.toISOString())
    .execute()
}

/** Keeps why it was not made, beside what is known of that already; false where this is. */
export async function noteJoinFault(tx: Tx, session: string, fault: BackendFault): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('join_credentials')
    .set({ fault: sql<string>`coalesce(fault || ',', '') || ${fault}` })
    .where('session', '=', session)
    .where((e) => e.or([e('fault', 'is', null), e(sql`',' || fault || ','`, 'not like', `%,${fault},%`)]))
    .executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/** The node gets it; false where nobody wants it any more, or another call than this one is under way. */
export async function takeJoinCredential(
  tx: Tx,
  of: {
    readonly session: string
    readonly handle: string
    readonly until: Date
    readonly now: Date
    /** Until when a call of before may be carried out. */
    readonly lateUntil: Date | null
  },
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('join_credentials')
    .set({
      ...{ state: 'made', made_at: of.now.toISOString(), fault: null },
      call_until: of.lateUntil?.toISOString() ?? null,
    })
    .where('session', '=', of.session)
    .where('handle', '=', of.handle)
    .where('state', '=', 'called')
    .where('call_until', '=', of.until.toISOString())
    .where('removal', 'is', null)
    .executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/**
 * Says that the credential of a session is to go; false where there is none, or it was said before. Where the cluster was asked, and
 * what came of it is not known, it may make it until `lateUntil`.
 */
export async function dropJoinCredential(
  tx: Tx,
  session: string,
  dropped: { readonly removal: string; readonly now: Date; readonly lateUntil: Date },
): Promise<boolean> {
  const { removal, now, lateUntil } = dropped
  const { numUpdatedRows } = await tx
    .updateTable('join_credentials')
    .set((e) => ({
      removal,
      remove_at: now.toISOString(),
      call_until: e
        .case()
        .when('state', '=', 'called')
        .then(lateUntil.toISOString())
        .else(e.ref('call_until'))
        .end(),
    }))
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
  tx: Tx,
  { session, remove_at, removal_tries }: JoinCredentialRow,
  again: Date,
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('join_credentials')
    .set({ remove_at: again.toISOString(), removal_tries: removal_tries + 1 })
    .where('session', '=', session)
    .where('remove_at', '=', remove_at)
    .executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/** Gives a claim back that came to nothing; the try does not count. */
export async function releaseRemoval(
  tx: Tx,
  { session, removal_tries }: JoinCredentialRow,
  { claimed, soon }: { readonly claimed: Date; readonly soon: Date },
): Promise<void> {
  await tx
    .updateTable('join_credentials')
    .set({ remove_at: soon.toISOString(), removal_tries })
    .where('session', '=', session)
    .where('remove_at', '=', claimed.toISOString())
    .execute()
}

/** It is gone, and a call that was given up may make it anew: false where another process was first. */
export async function awaitLateCall(tx: Tx, session: string, until: string): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('join_credentials')
    .set({ state: 'called', made_at: null, remove_at: until, removal_tries: 0 })
    .where('session', '=', session)
    .where('remove_at', '!=', until)
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
