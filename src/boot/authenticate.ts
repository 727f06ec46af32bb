import { contains, isSingle } from '../domain/address.ts'
import { type EvidenceResult, evidenceKinds } from '../domain/evidence.ts'
import type { EvidenceName } from '../domain/profile.ts'
import { Refusal, type RefusalCause } from '../domain/refusal.ts'
import type { Queries } from '../storage/database.ts'
import { countOtherHolders, type NodeRecord } from '../storage/nodes.ts'
import { checkSecret, type PresentedSecret } from './secret.ts'

/** What a request presents to prove that it comes from a node. */
export interface Presented extends PresentedSecret {
  readonly source: string
}

type Check = (db: Queries, node: NodeRecord, presented: Presented) => Promise<EvidenceResult>

/** One check for each kind of evidence. */
const checks: Readonly<Record<EvidenceName, Check>> = { address: checkAddress, secret: checkSecret }

const causes: Readonly<Record<EvidenceName, Partial<Record<EvidenceResult, RefusalCause>>>> = {
  address: { wrong: 'wrong-address', absent: 'wrong-address' },
  secret: { wrong: 'wrong-secret', absent: 'no-secret' },
}

/** A machine that came with a claim has no media with a secret in it: that would be the wrong thing to look for. */
function claimed(cause: RefusalCause, { claim }: Presented): RefusalCause {
  return cause === 'no-secret' && claim !== undefined ? 'wrong-claim' : cause
}

/** Proves at stage 1 that the request comes from `node`: every required kind must hold, and one of them must prove it. */
export async function authenticate(
  db: Queries,
  node: NodeRecord,
  required: readonly EvidenceName[],
  presented: Presented,
): Promise<void> {
  const results: EvidenceResult[] = []
  for (const kind of required) {
    const result = await checks[kind](db, node, presented)
    const cause = causes[kind][result]
    if (cause !== undefined) throw new Refusal(claimed(cause, presented), { node: node.name })
    results.push(result)
  }
  if (results.includes('proof')) return
  throw new Refusal(results.includes('location') ? 'address-proves-nothing' : 'no-evidence', {
    node: node.name,
  })
}

/** Checks again, at a redemption, what can be presented there; says whether the address is one of the node's. */
export async function authenticateAgain(
  db: Queries,
  node: NodeRecord,
  required: readonly EvidenceName[],
  presented: Presented,
): Promise<void> {
  for (const kind of required) {
    if (!evidenceKinds[kind].everyRedemption) continue
    const cause = causes[kind][await checks[kind](db, node, presented)]
    if (cause !== undefined) throw new Refusal(cause, { node: node.name })
  }
}

/** A registered single address that no other node has is a proof; a prefix, or a shared address, only a location. */
async function checkAddress(db: Queries, node: NodeRecord, { source }: Presented): Promise<EvidenceResult> {
  const match = node.addresses.filter((range) => contains(range, source))
  if (match.length === 0) return 'wrong'
  if (!match.some(isSingle)) return 'location'
  return (await countOtherHolders(db, node.id, source)) === 0 ? 'proof' : 'location'
}
