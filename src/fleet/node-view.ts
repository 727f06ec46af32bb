import { type AddressRange, isSingle } from '../domain/address.ts'
import type { WaitingNode } from '../domain/load.ts'
import type { Labels } from '../domain/node.ts'
import type { Pace } from '../domain/pace.ts'
import { findLivePlaces, type LivePlace } from '../storage/campaigns.ts'
import type { Queries } from '../storage/database.ts'
import { findSessions, listNodes, type NodeFilter } from '../storage/fleet.ts'
import type { LeavingRow } from '../storage/leaving-tables.ts'
import { findShownLeavings } from '../storage/leavings.ts'
import { findNode, type NodeRecord } from '../storage/nodes.ts'
import type { NodeSecretRow } from '../storage/secret-tables.ts'
import { findShownSecrets } from '../storage/secrets.ts'
import { findCurrentPaces } from '../storage/session-paces.ts'
import { findSession } from '../storage/sessions.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import { noSuchNode } from './change.ts'
import { type LeavingView, leavingView } from './leaving-view.ts'
import { waitingNodes } from './processes.ts'
import { type SecretView, secretOf } from './secret-view.ts'

/** A node's latest session, as nodes show it. */
export interface SessionSummary {
  readonly id: string
  readonly state: SessionRow['state']
  /** The last stage opened. */
  readonly stage: SessionRow['stage']
  readonly sequence: SessionRow['sequence']
  readonly startedAt: string
  readonly endedAt: string | null
  readonly local: boolean
  readonly cause: string | null
}

/** A node as operators see it. Of its enrolment secret all but the secret. */
export interface NodeView {
  readonly name: string
  readonly state: NodeRow['state']
  readonly failureCause: string | null
  readonly profile: string | null
  readonly labels: Labels
  readonly addresses: readonly string[]
  readonly macs: readonly string[]
  readonly uuid: string | null
  readonly serial: string | null
  readonly reinstall: NodeRow['reinstall']
  readonly reinstallAttempts: number
  /** The reinstall of many nodes that it is in now: waiting for a place, or in one. */
  readonly campaign: { readonly id: string; readonly state: 'waiting' | 'active' } | null
  readonly armed: boolean
  readonly secret: SecretView
  readonly session: SessionSummary | null
  /** How it leaves its cluster to be reinstalled; null where it does not, has, or was taken back whole. */
  readonly leaving: LeavingView | null
  /** Asked, and was told to come again: there was no room, or its join waits; null where it does not wait. */
  readonly waiting: WaitingView | null
  /** How the boot that is under way comes along; null where none is. `timeline` says why. */
  readonly pace: Pace | null
  /** Boots again and again without a report, and waits before each boot; null where it does not. */
  readonly looping: LoopingView | null
  /** Of the tunnel that the join of its last successful boot set up; null where it set up none. */
  readonly wireguardPublicKey: string | null
  /** Counted up with each change by an operator; what boots change does not count. */
  readonly revision: number
  readonly createdAt: string
  readonly updatedAt: string
}

/** Since when a node loops, and until when its next stage 1 has to wait; null until it asks. */
export interface LoopingView {
  readonly since: string
  readonly heldBackUntil: string | null
}

/** How a node waits: for what, and until when. `why` is what its join waits for; null where the server had no room. */
export type WaitingView = Omit<WaitingNode, 'node' | 'why'> & { readonly why: string | null }

/** Shows one node; throws `not-found`. */
export async function showNode(db: Queries, name: string): Promise<NodeView> {
  const node = await findNode(db, name)
  if (node === undefined) throw noSuchNode(name)
  const session = node.session === null ? undefined : await findSession(db, node.session)
  const places = await findLivePlaces(db, [node.id])
  const secrets = await findShownSecrets(db, [node.id])
  const leavings = await findShownLeavings(db, [node.id])
  const waiting = (await waitingNodes(db)).get(name)
  const pace = session === undefined ? undefined : (await findCurrentPaces(db, [session.id])).get(session.id)
  return viewOf(node, session, {
    place: places.get(node.id),
    secrets: secrets.get(node.id),
    leaving: leavings.get(node.id),
    ...{ waiting, pace: pace?.pace },
  })
}

/** Lists nodes by name. `next` is the cursor of the next page, null on the last. */
export async function pageOfNodes(
  db: Queries,
  filter: NodeFilter,
): Promise<{ items: NodeView[]; next: string | null }> {
  const rows = await listNodes(db, { ...filter, limit: filter.limit + 1 })
  const page = rows.slice(0, filter.limit)
  const sessions = await findSessions(
    db,
    page.map((node) => node.session).filter((id) => id !== null),
  )
  const ids = page.map((node) => node.id)
  const places = await findLivePlaces(db, ids)
  const secrets = await findShownSecrets(db, ids)
  const leavings = await findShownLeavings(db, ids)
  const waiting = await waitingNodes(db)
  const live = [...sessions.values()].filter((session) => session.ended_at === null)
  const paces = await findCurrentPaces(
    db,
    live.map(({ id }) => id),
  )
  return {
    items: page.map((node) => {
      const session = node.session === null ? undefined : sessions.get(node.session)
      const pace = session === undefined ? undefined : paces.get(session.id)?.pace
      return viewOf(node, session, {
        place: places.get(node.id),
        secrets: secrets.get(node.id),
        leaving: leavings.get(node.id),
        waiting: waiting.get(node.name),
        pace,
      })
    }),
    next: rows.length > filter.limit ? (page.at(-1)?.name ?? null) : null,
  }
}

/** An address range as it is written. */
export function writeAddress(range: AddressRange): string {
  return isSingle(range) ? range.address : `${range.address}/${range.prefixLength}`
}

/** Labels as stored. */
export function readLabels(text: string): Labels {
  return JSON.parse(text) as Labels // our own column, written from parseLabels
}

/** What else is known of a node. */
interface About {
  readonly place: LivePlace | undefined
  readonly secrets: readonly NodeSecretRow[] | undefined
  readonly leaving: LeavingRow | undefined
  readonly waiting: WaitingNode | undefined
  readonly pace: Pace | undefined
}

function viewOf(
  node: NodeRecord,
  session: SessionRow | undefined,
  { place, secrets = [], leaving, waiting, pace }: About,
): NodeView {
  return {
    name: node.name,
    state: node.state,
    failureCause: node.failure_cause,
    profile: node.profile,
    labels: readLabels(node.labels),
    addresses: node.addresses.map(writeAddress),
    macs: node.macs,
    uuid: node.uuid,
    serial: node.serial,
    reinstall: node.reinstall,
    reinstallAttempts: node.reinstall_attempts,
    campaign: place === undefined ? null : { id: place.campaign, state: place.state },
    armed: node.armed === 1,
    secret: secretOf(node, secrets),
    session: session === undefined ? null : summaryOf(session),
    leaving: leaving === undefined ? null : leavingView(leaving),
    waiting: waiting === undefined ? null : waitingOf(waiting),
    pace: session === undefined || session.ended_at !== null ? null : (pace ?? 'usual'),
    looping:
      node.looping_since === null ? null : { since: node.looping_since, heldBackUntil: node.held_back_until },
    wireguardPublicKey: node.wireguard_public_key,
    revision: node.revision,
    createdAt: node.created_at,
    updatedAt: node.updated_at,
  }
}

function summaryOf(session: SessionRow): SessionSummary {
  return {
    id: session.id,
    state: session.state,
    stage: session.stage,
    sequence: session.sequence,
    startedAt: session.started_at,
    endedAt: session.ended_at,
    local: session.local === 1,
    cause: session.cause,
  }
}

function waitingOf({ request, source, since, at, times, until, why }: WaitingNode): WaitingView {
  return { request, source, since, at, times, until, why: why ?? null }
}
