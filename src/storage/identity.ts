import type { Queries, Tx } from './database.ts'
import type {
  LoginRequestRow,
  OperatorCertificateRow,
  OperatorSessionRow,
  PersonRow,
} from './identity-tables.ts'

/** A session or a token of a person, with whose it is. */
export type WithPerson<Row> = Row & { readonly name: string; readonly issuer: string }

/** Finds a person by the provider's name of the account. */
export function findPerson(tx: Tx, issuer: string, subject: string): Promise<PersonRow | undefined> {
  return tx
    .selectFrom('people')
    .selectAll()
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .executeTakeFirst()
}

/** Finds whoever has this name. */
export function findPersonNamed(db: Queries, name: string): Promise<PersonRow | undefined> {
  return db.selectFrom('people').selectAll().where('name', '=', name).executeTakeFirst()
}

/** Finds a person by our own id. */
export function findPersonById(db: Queries, id: string): Promise<PersonRow | undefined> {
  return db.selectFrom('people').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Makes a person, or brings name and time up to date. */
export async function putPerson(tx: Tx, row: PersonRow): Promise<void> {
  const { name, last_seen_at } = row
  await tx
    .insertInto('people')
    .values(row)
    .onConflict((c) => c.column('id').doUpdateSet({ name, last_seen_at }))
    .execute()
}

/** Removes a person: sessions and waiting command lines go along. */
export async function deletePerson(tx: Tx, id: string): Promise<void> {
  await tx.deleteFrom('people').where('id', '=', id).execute()
}

/** People who ever signed in, by name. */
export function listPeople(db: Queries): Promise<PersonRow[]> {
  return db.selectFrom('people').selectAll().orderBy('name').execute()
}

/** Finds a session by its id, with whose it is; whether it is over is for the caller to see. */
export function findSession(db: Queries, id: string): Promise<WithPerson<OperatorSessionRow> | undefined> {
  return db
    .selectFrom('operator_sessions')
    .innerJoin('people', 'people.id', 'operator_sessions.person')
    .selectAll('operator_sessions')
    .select(['people.name', 'people.issuer'])
    .where('operator_sessions.id', '=', id)
    .executeTakeFirst()
}

/** Sessions that are not over, the latest first. */
export function listSessions(
  db: Queries,
  now: Date,
  idleSince: Date,
): Promise<WithPerson<OperatorSessionRow>[]> {
  return db
    .selectFrom('operator_sessions')
    .innerJoin('people', 'people.id', 'operator_sessions.person')
    .selectAll('operator_sessions')
    .select(['people.name', 'people.issuer'])
    .where('operator_sessions.expires_at', '>', now.toISOString())
    .where('operator_sessions.last_seen_at', '>', idleSince.toISOString())
    .orderBy('operator_sessions.created_at', 'desc')
    .orderBy('operator_sessions.id')
    .execute()
}

/** Stores a session; of one person's, the oldest beyond `most` go. */
export async function insertSession(tx: Tx, row: OperatorSessionRow, most: number): Promise<void> {
  await tx.insertInto('operator_sessions').values(row).execute()
  const surplus = await tx
    .selectFrom('operator_sessions')
    .select('id')
    .where('person', '=', row.person)
    .orderBy('created_at', 'desc')
    .orderBy('id')
    .offset(most)
    .limit(most)
    .execute()
  for (const { id } of surplus) await tx.deleteFrom('operator_sessions').where('id', '=', id).execute()
}

/** Ends a session; false where it was gone. */
export async function deleteSession(tx: Queries, id: string): Promise<boolean> {
  const { numDeletedRows } = await tx.deleteFrom('operator_sessions').where('id', '=', id).executeTakeFirst()
  return numDeletedRows > 0n
}

/** Removes sessions and command lines whose time is over. */
export async function deleteEndedSignIns(db: Queries, now: Date, idleSince: Date): Promise<void> {
  await db
    .deleteFrom('operator_sessions')
    .where((e) =>
      e.or([e('expires_at', '<=', now.toISOString()), e('last_seen_at', '<=', idleSince.toISOString())]),
    )
    .execute()
  await db.deleteFrom('login_requests').where('expires_at', '<=', now.toISOString()).execute()
}

/** Command lines that wait now, by the unit that they are counted by. */
export async function countLoginRequests(tx: Tx, now: Date): Promise<ReadonlyMap<string, number>> {
  const rows = await tx
    .selectFrom('login_requests')
    .select(['source_unit', (e) => e.fn.countAll<number | string>().as('count')])
    .where('expires_at', '>', now.toISOString())
    .groupBy('source_unit')
    .execute()
  return new Map(rows.map(({ source_unit, count }) => [source_unit, Number(count)]))
}

/** Ends the oldest command line of these units that nobody has decided about. */
export async function dropOldestLogin(tx: Tx, units: readonly string[]): Promise<boolean> {
  const oldest = await tx
    .selectFrom('login_requests')
    .select('id')
    .where('source_unit', 'in', units)
    .where('state', '=', 'waiting')
    .orderBy('created_at')
    .orderBy('id')
    .limit(1)
    .executeTakeFirst()
  if (oldest === undefined) return false
  await tx.deleteFrom('login_requests').where('id', '=', oldest.id).execute()
  return true
}

/** Stores a command line that begins to wait. */
export async function insertLoginRequest(tx: Tx, row: LoginRequestRow): Promise<void> {
  await tx.insertInto('login_requests').values(row).execute()
}

/** A waiting command line by what it itself holds. */
export function findLoginRequest(db: Queries, id: string, now: Date): Promise<LoginRequestRow | undefined> {
  return db
    .selectFrom('login_requests')
    .selectAll()
    .where('id', '=', id)
    .where('expires_at', '>', now.toISOString())
    .executeTakeFirst()
}

/** A waiting command line by the code that its user reads off; only one that nobody decided about yet. */
export function findWaitingLogin(db: Queries, code: string, now: Date): Promise<LoginRequestRow | undefined> {
  return db
    .selectFrom('login_requests')
    .selectAll()
    .where('code', '=', code)
    .where('state', '=', 'waiting')
    .where('expires_at', '>', now.toISOString())
    .executeTakeFirst()
}

/** Decides about a waiting command line; undefined where someone was first, or its time is over. */
export function decideLogin(
  tx: Tx,
  code: string,
  decision: Pick<LoginRequestRow, 'state' | 'person' | 'role'>,
  now: Date,
): Promise<LoginRequestRow | undefined> {
  return tx
    .updateTable('login_requests')
    .set(decision)
    .where('code', '=', code)
    .where('state', '=', 'waiting')
    .where('expires_at', '>', now.toISOString())
    .returningAll()
    .executeTakeFirst()
}

/** Takes a decided command line off the list, so that of two polls at once one gets its token. */
export function takeLogin(tx: Tx, id: string): Promise<LoginRequestRow | undefined> {
  return tx
    .deleteFrom('login_requests')
    .where('id', '=', id)
    .where('state', '<>', 'waiting')
    .returningAll()
    .executeTakeFirst()
}

/** Writes when a command line asked last. */
export async function notePoll(db: Queries, id: string, now: Date): Promise<void> {
  await db.updateTable('login_requests').set({ polled_at: now.toISOString() }).where('id', '=', id).execute()
}

/** Stores a certificate just made. */
export async function insertCertificate(tx: Tx, row: OperatorCertificateRow): Promise<void> {
  await tx.insertInto('operator_certificates').values(row).execute()
}

/** Finds a certificate by the SHA-256 of its DER; revoked and expired ones too. */
export function findCertificate(
  db: Queries,
  fingerprint: string,
): Promise<OperatorCertificateRow | undefined> {
  return db
    .selectFrom('operator_certificates')
    .selectAll()
    .where('fingerprint', '=', fingerprint)
    .executeTakeFirst()
}

/** Every certificate ever made, the newest first. */
export function listCertificates(db: Queries): Promise<OperatorCertificateRow[]> {
  return db
    .selectFrom('operator_certificates')
    .selectAll()
    .orderBy('created_at', 'desc')
    .orderBy('id')
    .execute()
}

/** Takes a certificate back; undefined where there is none, or it was taken back before. */
export function revokeCertificateRow(
  tx: Tx,
  id: string,
  now: Date,
): Promise<OperatorCertificateRow | undefined> {
  return tx
    .updateTable('operator_certificates')
    .set({ revoked_at: now.toISOString() })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .returningAll()
    .executeTakeFirst()
}

/** Writes when and from where something was used last, unless another process just did. */
export async function noteUse(
  db: Queries,
  what: { readonly table: 'operators' | 'operator_certificates' | 'operator_sessions'; readonly id: string },
  { now, before, source }: { readonly now: Date; readonly before: Date; readonly source: string },
): Promise<void> {
  const at = now.toISOString()
  if (what.table === 'operator_sessions') {
    await db
      .updateTable(what.table)
      .set({ last_seen_at: at })
      .where('id', '=', what.id)
      .where('last_seen_at', '<=', before.toISOString())
      .execute()
    return
  }
  await db
    .updateTable(what.table)
    .set({ last_used_at: at, last_used_from: source })
    .where('id', '=', what.id)
    .where((e) => e.or([e('last_used_at', 'is', null), e('last_used_at', '<=', before.toISOString())]))
    .execute()
}
