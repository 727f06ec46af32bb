import { contains, isSingle } from '../domain/address.ts'
import { type EvidenceResult, evidenceKinds } from '../domain/evidence.ts'
import type { EvidenceName } from '../domain/profile.ts'
import { Refusal, type RefusalCause } from '../domain/refusal.ts'
import type { TokenKind } from '../domain/token.ts'
import type { Queries } from '../storage/database.ts'
import { listAddresses, listOtherHolders } from '../storage/nodes.ts'
import type { NodeSecretRow } from '../storage/secret-tables.ts'
import type { NodeRow } from '../storage/tables.ts'
import { checkCertificate, type PresentedCertificate } from './certificate.ts'
import { checkSecret, type PresentedSecret } from './secret.ts'

/** What a request presents to prove that it comes from a node. */
export interface Presented extends PresentedSecret {
  readonly source: string
  readonly certificate?: PresentedCertificate | undefined
  readonly now: Date
}

/** What a check found. */
type Found = EvidenceResult | More

interface More extends Proven {
  readonly result: EvidenceResult
  /** For the event where the node is refused for it. */
  readonly detail?: Record<string, unknown>
}

/** What a node was proved by, as it is stored. */
export interface Proven {
  /** The enrolment secret that came; left out where none came, or one that has no row. */
  readonly secret?: NodeSecretRow
}

type Check = (db: Queries, node: NodeRow, presented: Presented) => Promise<Found>

/** One check for each kind of evidence. */
const checks: Readonly<Record<EvidenceName, Check>> = {
  address: checkAddress,
  secret: checkSecret,
  certificate: (db, node, { certificate, ...use }) => checkCertificate(db, node, certificate, use),
}

const causes: Readonly<Record<EvidenceName, Partial<Record<EvidenceResult, RefusalCause>>>> = {
  address: { wrong: 'wrong-address', absent: 'wrong-address' },
  secret: { wrong: 'wrong-secret', absent: 'no-secret' },
  certificate: { absent: 'no-certificate' },
}

/**
 * Tokens that boot firmware presents, all others being an agent's. The handover leads to stage 2 and nowhere else, and there
 * the agent must show the certificate that stock iPXE does not have.
 */
const firmwareTokens: ReadonlySet<TokenKind> = new Set(['handover'])

/** A machine that came with a claim has no media with a secret in it: that would be the wrong thing to look for. */
function claimed(cause: RefusalCause, { claim }: Presented): RefusalCause {
  return cause === 'no-secret' && claim !== undefined ? 'wrong-claim' : cause
}

/**
 * Proves at stage 1 that the request comes from `node`: every required kind must hold, and one of them must prove it. A kind
 * that stock iPXE cannot present may be missing where another proves the node: it must come from stage 2 on. What is presented
 * and wrong is refused here. Returns what it has read for that.
 */
export async function authenticate(
  db: Queries,
  node: NodeRow,
  required: readonly EvidenceName[],
  presented: Presented,
): Promise<Proven> {
  const found = new Map<EvidenceName, EvidenceResult>()
  let detail: Record<string, unknown> = {}
  let proven: Proven = {}
  for (const kind of required) {
    const { result, ...more } = plain(await checks[kind](db, node, presented))
    const cause = causes[kind][result]
    if (cause !== undefined && !mayComeLater(kind, result))
      throw new Refusal(claimed(cause, presented), { node: node.name })
    found.set(kind, result)
    detail = { ...detail, ...more.detail }
    if (more.secret !== undefined) proven = { secret: more.secret }
  }
  const results = [...found.values()]
  if (results.includes('proof')) return proven
  if (results.includes('location')) throw new Refusal('address-proves-nothing', { node: node.name, detail })
  throw new Refusal(results.includes('absent') ? 'no-certificate' : 'no-evidence', { node: node.name })
}

/** Checks again, at the redemption of a token of this kind, what can be presented there. */
export async function authenticateAgain(
  db: Queries,
  node: NodeRow,
  required: readonly EvidenceName[],
  token: TokenKind,
  presented: Presented,
): Promise<void> {
  // Where the certificate is all there is, the firmware had it at stage 1, and has it still.
  const others = required.some((kind) => evidenceKinds[kind].firmware)
  for (const kind of required) {
    if (!evidenceKinds[kind].everyRedemption) continue
    const { result } = plain(await checks[kind](db, node, presented))
    const cause = causes[kind][result]
    if (cause === undefined) continue
    if (others && firmwareTokens.has(token) && mayComeLater(kind, result)) continue
    throw new Refusal(cause, { node: node.name })
  }
}

/** Whether a kind of evidence that is missing may still come, from the Linux that iPXE starts. */
function mayComeLater(kind: EvidenceName, result: EvidenceResult): boolean {
  return result === 'absent' && !evidenceKinds[kind].firmware
}

function plain(found: Found): More {
  return typeof found === 'string' ? { result: found } : found
}

/**
 * A registered single address that no other node has is a proof; a prefix, or an address that others have too (several nodes
 * behind one NAT), only a location. Its event names the others: they need another kind of evidence as much as this node does.
 */
async function checkAddress(db: Queries, node: NodeRow, { source }: Presented): Promise<Found> {
  const addresses = await listAddresses(db, node.id)
  const match = addresses.filter((range) => contains(range, source))
  if (match.length === 0) return 'wrong'
  if (!match.some(isSingle)) return { result: 'location', detail: { registered: 'prefix' } }
  const sharedWith = await listOtherHolders(db, node.id, source)
  return sharedWith.length === 0 ? 'proof' : { result: 'location', detail: { sharedWith } }
}
