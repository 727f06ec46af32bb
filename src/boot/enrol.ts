import { createHash } from 'node:crypto'
import { canonicalJson } from '../domain/canonical-json.ts'
import { addSeconds } from '../domain/clock.ts'
import { type Facts, parseFacts } from '../domain/facts.ts'
import { PawlError } from '../errors.ts'
import type { BootContext } from './context.ts'
import { type Asking, inTransaction, recordingRefusals, type Work } from './work.ts'

/** An unknown machine's request. */
export interface EnrolRequest extends Asking {
  readonly fields: Readonly<Record<string, unknown>>
}

/** The facts that make a machine; the rest (addresses, versions) may differ from boot to boot. */
const identifying = ['uuid', 'serial', 'mac', 'manufacturer', 'product'] as const

/**
 * Answers a machine that no node matches: a script that shows its facts and a code, and asks again. The code is bound to
 * the facts and the source, lives an hour, and is renewed by asking; an operator approves the machine by it.
 */
export function enrol(context: BootContext, request: EnrolRequest): Promise<string> {
  return recordingRefusals(context, { ...request, host: undefined }, async () => {
    const result = parseFacts(request.fields)
    if ('bad' in result) throw new PawlError('invalid', `fact "${result.bad.name}" ${result.bad.reason}`)
    return inTransaction(context, async (work) => {
      const code = await codeFor(work, result.facts, request.source)
      return context.templates.render('pending.ipxe', { code, ...shown(result.facts) })
    })
  })
}

/** The facts for a console line. What iPXE would not take as one harmless word is shown as `_`: a fact is told, not trusted. */
function shown(facts: Facts): Record<(typeof identifying)[number], string> {
  const word = (name: (typeof identifying)[number]): string =>
    (facts[name] ?? 'unknown').slice(0, 64).replace(/^-|[^A-Za-z0-9.:_-]/g, '_')
  return {
    mac: word('mac'),
    uuid: word('uuid'),
    serial: word('serial'),
    manufacturer: word('manufacturer'),
    product: word('product'),
  }
}

async function codeFor(work: Work, facts: Facts, source: string): Promise<string> {
  const { tx, now, context } = work
  await tx.deleteFrom('pending_machines').where('expires_at', '<=', now.toISOString()).execute()
  const fingerprint = fingerprintOf(facts, source)
  const times = {
    last_seen_at: now.toISOString(),
    expires_at: addSeconds(now, context.settings.enrolmentLifetimeSeconds).toISOString(),
  }
  const known = await tx
    .selectFrom('pending_machines')
    .selectAll()
    .where('fingerprint', '=', fingerprint)
    .executeTakeFirst()
  if (known !== undefined) {
    await tx.updateTable('pending_machines').set(times).where('code', '=', known.code).execute()
    return known.code
  }
  await makeRoom(work)
  const code = newCode(context.randomBytes(8))
  await tx
    .insertInto('pending_machines')
    .values({
      code,
      fingerprint,
      facts: JSON.stringify(facts),
      source,
      first_seen_at: now.toISOString(),
      rejected: 0,
      ...times,
    })
    .execute()
  const event = {
    kind: 'machine-pending' as const,
    cause: 'unknown',
    node: null,
    session: null,
    source,
    detail: { facts },
  }
  work.afterCommit(() => context.refusals.record(event))
  return code
}

/** The list is bounded: who was seen last the longest ago makes room. */
async function makeRoom({ tx, context }: Work): Promise<void> {
  const { count } = await tx
    .selectFrom('pending_machines')
    .select((e) => e.fn.countAll<number | string>().as('count'))
    .executeTakeFirstOrThrow()
  if (Number(count) < context.settings.maxPendingMachines) return
  const oldest = await tx
    .selectFrom('pending_machines')
    .select('code')
    .orderBy('last_seen_at')
    .executeTakeFirst()
  if (oldest !== undefined) await tx.deleteFrom('pending_machines').where('code', '=', oldest.code).execute()
}

function fingerprintOf(facts: Facts, source: string): string {
  const bound = [source, ...identifying.map((name) => facts[name] ?? null)]
  return createHash('sha256').update(canonicalJson(bound)).digest('hex')
}

/** Crockford's alphabet without the letters that look like others; 10 characters of 5 bits are 50 bits. */
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'

function newCode(bytes: Uint8Array): string {
  let bits = 0n
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte)
  const digits = Array.from({ length: 10 }, (_, i) => alphabet[Number((bits >> BigInt(5 * i)) & 31n)])
  return `${digits.slice(0, 5).join('')}-${digits.slice(5).join('')}`
}
