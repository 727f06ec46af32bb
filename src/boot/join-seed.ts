import { addSeconds } from '../domain/clock.ts'
import { type CloudInitSettings, renderNoCloud } from '../domain/join/cloud-init.ts'
import type { DocumentValues } from '../domain/join/document.ts'
import { type IgnitionSettings, renderIgnition } from '../domain/join/ignition.ts'
import type { Join } from '../domain/join.ts'
import { checkCommandLine } from '../domain/kernel-args.ts'
import { textLength, tokenFromRandom } from '../domain/token.ts'
import type { SeedKind } from '../storage/seed-tables.ts'
import { insertSeed } from '../storage/seeds.ts'
import type { NodeRow, SessionRow } from '../storage/tables.ts'
import type { BootContext } from './context.ts'
import { bootBase } from './entry.ts'
import { fitting, type JoinPlace, openJoin } from './join-script.ts'
import type { Pinned } from './pin.ts'
import { readableJoin } from './readable-join.ts'
import type { Work } from './work.ts'

/**
 * Seeds: what cloud-init and Ignition fetch by themselves. They send no headers, so that the token is in the path, as ePoxy's are; it is of
 * its own, opens nothing else, and is good while its stage lasts: `ignition-boot`, which stands on the full kernel's command line for
 * everybody to read, until that system redeems stage 3; the others until the report, or another stage 1.
 */
const seedOf: Readonly<Partial<Record<Join['kind'], Exclude<SeedKind, 'ignition-boot'>>>> = {
  'cloud-init': 'nocloud',
  ignition: 'ignition',
}

/** No longer than an agent lets a join script run. */
const lifetimeSeconds = 1800

/** Of whom a seed is rendered. */
type Subject = {
  readonly node: Pick<NodeRow, 'name' | 'labels'>
  readonly session: Pick<SessionRow, 'id' | 'sequence'>
  readonly pinned: Pick<Pinned, 'profile' | 'join'>
}

/** The files of a seed, by their names; Ignition has one. Throws `render-failed` where a document cannot be rendered for this node. */
export function renderSeed(context: Pick<BootContext, 'sealer'>, subject: Subject): RenderedSeed {
  const { node, session, pinned } = subject
  const place: JoinPlace = {
    ...{ host: node.name, session: session.id },
    ...{ profile: pinned.profile, sequence: session.sequence },
  }
  const values: DocumentValues = {
    ...place,
    instanceId: session.id,
    labels: JSON.parse(node.labels) as Record<string, string>, // our own row
  }
  const join = openJoin(context, place, pinned.join ?? { kind: 'none' })
  if (join.kind === 'cloud-init') return renderNoCloud(join.settings as CloudInitSettings, values)
  if (join.kind === 'ignition')
    return { files: { config: renderIgnition(join.settings as IgnitionSettings, values) } }
  return { files: {} }
}

/** A seed, rendered. */
export interface RenderedSeed {
  readonly files: Readonly<Record<string, string>>
  /** For `/etc/cloud/cloud.cfg.d`. */
  readonly network?: string | undefined
}

interface SeedOf {
  readonly host: string
  readonly kind: Join['kind']
  /** Left out: one of nobody. */
  readonly token?: string
  readonly network?: string | undefined
}

/** What the join script of such a kind is given beside what every script is; tried with a token of nobody at `profile apply`. */
export function seedVariables(
  { entry }: Pick<BootContext, 'entry'>,
  of: SeedOf,
): Readonly<Record<string, unknown>> {
  const kind = seedOf[of.kind]
  if (kind === undefined) return {}
  return {
    seedUrl: `${bootBase(entry, of.host)}/${of.token ?? 'A'.repeat(textLength)}/${kind}`,
    ca: base64(entry.ca),
    ...(kind === 'nocloud' ? { network: base64(of.network ?? '') } : {}),
  }
}

/** Renders the seed of a join, so that one that cannot be spends no token, and mints the token of its URL. */
export async function mintJoinSeed(
  work: Work,
  subject: Subject & { readonly session: SessionRow },
): Promise<Readonly<Record<string, unknown>>> {
  const join = subject.pinned.join
  const kind = join === undefined ? undefined : seedOf[join.kind]
  if (join === undefined || kind === undefined) return {}
  const { network } = renderFittingSeed(work.context, subject)
  const token = await mintSeed(work, subject.session, kind)
  return seedVariables(work.context, { host: subject.node.name, kind: join.kind, token, network })
}

/** The full kernel's arguments, with where an Ignition in its initramfs finds its configuration. */
export async function withIgnitionUrl(
  work: Work,
  subject: Subject & { readonly session: SessionRow },
  kernelArguments: string,
): Promise<string> {
  if (subject.pinned.join?.kind !== 'ignition') return kernelArguments
  const join = await readableJoin(work, subject)
  renderFittingSeed(work.context, { ...subject, pinned: { ...subject.pinned, join } })
  const token = await mintSeed(work, subject.session, 'ignition-boot')
  return withUrl(work.context, subject.node.name, kernelArguments, token)
}

/**
 * Refuses a boot whose documents cannot be rendered for this node, or whose arguments would be too long, before anything of it is handed
 * out.
 */
export function checkSeed(context: BootContext, subject: Subject, kernelArguments: string): void {
  const kind = subject.pinned.join?.kind
  if (kind === undefined || seedOf[kind] === undefined) return
  renderFittingSeed(context, subject)
  if (kind === 'ignition') withUrl(context, subject.node.name, kernelArguments, 'A'.repeat(textLength))
}

function withUrl({ entry }: BootContext, host: string, kernelArguments: string, token: string): string {
  const url = `ignition.config.url=${bootBase(entry, host)}/${token}/ignition`
  return checkCommandLine(`${kernelArguments} ${url}`.trim())
}

function renderFittingSeed(context: BootContext, subject: Subject): RenderedSeed {
  return fitting({ node: subject.node.name }, () => renderSeed(context, subject))
}

async function mintSeed(work: Work, session: SessionRow, kind: SeedKind): Promise<string> {
  const { id, hash, text } = tokenFromRandom(work.context.randomBytes(33))
  await insertSeed(work.tx, {
    ...{ id, session: session.id, kind, secret_hash: hash, asked: '{}' },
    issued_at: work.now.toISOString(),
    expires_at: addSeconds(work.now, lifetimeSeconds).toISOString(),
  })
  return text
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64')
}
