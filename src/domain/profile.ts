import { PawlError } from '../errors.ts'
import { imagesOfStage, stageImageSchema } from './architecture.ts'
import { type ArtifactBase, artifactBaseSchema } from './artifact-base.ts'
import type { Branded } from './brand.ts'
import { parseImageSource } from './channel.ts'
import type { EvidenceKind } from './evidence.ts'
import { identityFault, type ProfileIdentity, profileIdentitySchema } from './identity.ts'
import { handsOutCredential, type Join, joinFault, joinSchema } from './join.ts'
import { parseKernelArguments } from './kernel-args.ts'
import { type HookCall, hooksFault, type Leave, leaveSchema, rebootSchema } from './leave.ts'
import { expectationSchema, expectedOf } from './profile-expect.ts'
import {
  extensionsFault,
  extensionsWritten,
  type ProfileExtensions,
  profileExtensionFields,
} from './profile-extensions.ts'
import { checkAll, profileFault } from './profile-fault.ts'
import { publisherNamePattern } from './publisher.ts'
import Type, { Compile, type Static } from './schema.ts'
import type { SecretKind } from './secret.ts'
import type { ExpectedOf } from './usual-times.ts'

export { reliesOnAddress } from './profile-address.ts'
export { sourcesOf, stage2ImagesOf } from './profile-images.ts'

/** A profile's name. */
export type ProfileName = Branded<string, 'ProfileName'>

const chainUrl = Type.String({ pattern: '^https?://[!-~]+$', maxLength: 1024 })

/** Boots two Pawl images, then joins. */
const imageSequence = Type.Object(
  { stage2: stageImageSchema, stage3: stageImageSchema, join: Type.Optional(joinSchema) },
  { additionalProperties: false },
)

/** ePoxy's way: each stage is a URL of the user's own; `{{VERSION}}` in it becomes `imagesVersion`. */
const chainSequence = Type.Object(
  {
    imagesVersion: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }),
    chain: Type.Object(
      { 'stage1.ipxe': chainUrl, 'stage1.json': chainUrl, stage2: chainUrl, stage3: chainUrl },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)

const sequence = Type.Union([Type.Literal('local'), imageSequence, chainSequence])
const evidenceList = Type.Array(
  Type.Union([Type.Literal('address'), Type.Literal('secret'), Type.Literal('certificate')]),
  { minItems: 1, uniqueItems: true },
)

/** A profile as it is written in a file or sent to the API. */
export const profileSchema = Type.Object(
  {
    name: Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,62}$' }),
    tokens: Type.Optional(Type.Union([Type.Literal('native'), Type.Literal('epoxy')])),
    evidence: Type.Optional(
      Type.Union([
        evidenceList,
        Type.Object({ boot: evidenceList, reinstall: evidenceList }, { additionalProperties: false }),
      ]),
    ),
    acceptAddressOnly: Type.Optional(Type.Boolean()),
    acceptAutoApproved: Type.Optional(Type.Boolean()),
    secrets: Type.Optional(Type.Union([Type.Literal('static'), Type.Literal('rotating')])),
    armed: Type.Optional(Type.Boolean()),
    whenFactsChange: Type.Optional(Type.Union([Type.Literal('record'), Type.Literal('refuse')])),
    downloads: Type.Optional(Type.Union([Type.Literal('session'), Type.Literal('digest')])),
    redirects: Type.Optional(Type.Boolean()),
    artifactBase: Type.Optional(artifactBaseSchema),
    whenServerAbsent: Type.Optional(Type.Union([Type.Literal('retry'), Type.Literal('local')])),
    kernelArguments: Type.Optional(Type.String({ maxLength: 1024 })),
    acceptUnsigned: Type.Optional(Type.Boolean()),
    publishers: Type.Optional(
      Type.Array(Type.String({ pattern: publisherNamePattern }), {
        minItems: 1,
        maxItems: 32,
        uniqueItems: true,
      }),
    ),
    imgverify: Type.Optional(Type.Boolean()),
    expect: Type.Optional(expectationSchema),
    leave: Type.Optional(leaveSchema),
    reboot: Type.Optional(rebootSchema),
    ...profileExtensionFields,
    identity: Type.Optional(profileIdentitySchema),
    boot: sequence,
    reinstall: Type.Optional(sequence),
  },
  { additionalProperties: false, $id: 'Profile' },
)

type Written = Static<typeof profileSchema>
export type ImageSequence = Static<typeof imageSequence> & { readonly join: Join }
export type ChainSequence = Static<typeof chainSequence>
export type Sequence = 'local' | ImageSequence | ChainSequence
export type SequenceName = 'boot' | 'reinstall'
export type EvidenceName = EvidenceKind

/** A profile with every default filled in and every rule checked. */
export interface Profile extends ProfileExtensions {
  readonly name: ProfileName
  readonly tokens: 'native' | 'epoxy'
  readonly evidence: Readonly<Record<SequenceName, readonly EvidenceName[]>>
  readonly acceptAddressOnly: boolean
  /** Whether machines that a rule approved may get what this profile hands out to join: facts can be forged. */
  readonly acceptAutoApproved: boolean
  /** Whether each boot replaces the enrolment secret on the boot medium, which must be one that can be written to. */
  readonly secrets: SecretKind
  readonly armed: boolean
  /** Whether a machine that tells another UUID, serial number or MAC address than before is booted and recorded, or refused. */
  readonly whenFactsChange: 'record' | 'refuse'
  readonly downloads: 'session' | 'digest'
  /** Whether agents are sent to the object storage for the stage-3 image, where artifacts are kept in one. */
  readonly redirects: boolean
  /** A cache near the machines, for `downloads: digest`. */
  readonly artifactBase: ArtifactBase | undefined
  readonly whenServerAbsent: 'retry' | 'local'
  readonly kernelArguments: string
  /** Whether images that no trusted publisher signed are booted too. */
  readonly acceptUnsigned: boolean
  /** Whose signatures count; undefined: every registered publisher's. */
  readonly publishers: readonly string[] | undefined
  /** Whether iPXE is to check the signatures of kernel and initramfs, for builds of it that can. */
  readonly imgverify: boolean
  /** How many seconds each stage may take before it is slow; what is left out is learned from the fleet. */
  readonly expect: ExpectedOf | undefined
  /** How its nodes leave their cluster before they are reinstalled, and how they are rebooted then. */
  readonly leave?: Leave
  readonly reboot?: HookCall
  /** Whom its nodes are given identity documents for; left out: they are given none. */
  readonly identity?: ProfileIdentity
  readonly boot: Sequence
  readonly reinstall: Sequence | undefined
}

const compiled = Compile(profileSchema)

/** Reads a profile; throws `invalid` naming each field and what it breaks. */
export function parseProfile(value: unknown): Profile {
  if (!compiled.Check(value)) throw profileFault(compiled as never, value)
  const profile = withDefaults(value)
  checkAll([
    ...(['boot', 'reinstall'] as const).map((name) => () => checkSequence(profile, name, profile[name])),
    () => parseKernelArguments(profile.kernelArguments),
    () => checkExtensions(profile),
    () => checkRotating(profile),
    () => checkFields(profile),
  ])
  return profile
}

function checkFields(profile: Profile): void {
  if (profile.reinstall === 'local')
    throw wrong(profile, 'reinstall', 'cannot be "local": there is nothing to install from')
  const unfit = identityFault(profile)
  if (unfit !== undefined) throw wrong(profile, unfit.at, unfit.what)
  const fault = hooksFault(profile)
  if (fault !== undefined) throw wrong(profile, fault.at, fault.what)
  if (profile.artifactBase !== undefined && profile.downloads !== 'digest')
    throw wrong(profile, 'artifactBase', 'needs "downloads: digest": a cache gets no capability to ask with')
  if (profile.acceptUnsigned && profile.publishers !== undefined)
    throw wrong(profile, 'publishers', 'names who must sign, and acceptUnsigned says that nobody need')
}

/** The profile as it is written, for storing and showing: `parseProfile` reads it back to the same. */
export function writeProfile(profile: Profile): Record<string, unknown> {
  const { reinstall, publishers, artifactBase, expect, ...rest } = profile
  return {
    ...rest,
    ...(artifactBase === undefined ? {} : { artifactBase }),
    ...(publishers === undefined ? {} : { publishers }),
    ...(expect === undefined ? {} : { expect }),
    ...(reinstall === undefined ? {} : { reinstall }),
  }
}

function withDefaults(written: Written): Profile {
  const evidence = written.evidence ?? ['secret']
  return {
    name: written.name as ProfileName, // the schema's pattern is the whole rule
    tokens: written.tokens ?? 'native',
    evidence: Array.isArray(evidence) ? { boot: evidence, reinstall: evidence } : evidence,
    acceptAddressOnly: written.acceptAddressOnly ?? false,
    acceptAutoApproved: written.acceptAutoApproved ?? false,
    secrets: written.secrets ?? 'static',
    armed: written.armed ?? false,
    whenFactsChange: written.whenFactsChange ?? 'record',
    downloads: written.downloads ?? 'session',
    redirects: written.redirects ?? false,
    artifactBase: written.artifactBase,
    whenServerAbsent: written.whenServerAbsent ?? 'retry',
    kernelArguments: written.kernelArguments ?? '',
    acceptUnsigned: written.acceptUnsigned ?? false,
    publishers: written.publishers,
    imgverify: written.imgverify ?? false,
    ...(written.identity === undefined ? {} : { identity: written.identity }),
    expect: written.expect === undefined ? undefined : expectedOf(written.expect),
    ...(written.leave === undefined ? {} : { leave: written.leave }),
    ...(written.reboot === undefined ? {} : { reboot: written.reboot }),
    ...extensionsWritten(written),
    boot: sequenceWithDefaults(written.boot),
    reinstall: written.reinstall === undefined ? undefined : sequenceWithDefaults(written.reinstall),
  }
}

function sequenceWithDefaults(sequence: Written['boot']): Sequence {
  return typeof sequence === 'object' && 'stage2' in sequence
    ? { ...sequence, join: sequence.join ?? { kind: 'none' } }
    : sequence
}

/** Only stage 3 of ours can write a new secret, and only a boot that came with one is given another. */
function checkRotating(profile: Profile): void {
  if (profile.secrets !== 'rotating') return
  if (profile.tokens === 'epoxy')
    throw wrong(profile, 'secrets', 'cannot be "rotating" with "tokens: epoxy": its clients write no secret')
  if (!profile.evidence.boot.includes('secret') && !profile.evidence.reinstall.includes('secret'))
    throw wrong(profile, 'secrets', 'cannot be "rotating" where no sequence requires "secret" as evidence')
}

/** What extensions answer may let a node in, so an address alone opens none. */
function checkExtensions(profile: Profile): void {
  const sequences = [profile.boot, profile.reinstall]
  const joins = sequences.map((one) => (typeof one === 'object' && 'join' in one ? one.join : undefined))
  const fault = extensionsFault(profile, joins)
  if (fault !== undefined) throw wrong(profile, fault.field, fault.what)
  if (profile.extensions === undefined) return
  for (const name of ['boot', 'reinstall'] as const)
    if (typeof profile[name] === 'object' && profile.evidence[name].every((kind) => kind === 'address'))
      refuseAddressOnly(profile, 'hand out what extensions answer')
}

function checkSequence(profile: Profile, name: SequenceName, sequence: Sequence | undefined): void {
  if (sequence === undefined) return
  const addressOnly = profile.evidence[name].every((kind) => kind === 'address')
  if (addressOnly && name === 'reinstall') refuseAddressOnly(profile, 'serve reinstall')
  if (sequence === 'local') return
  if (addressOnly && profile.identity !== undefined) refuseAddressOnly(profile, 'give identities')
  const chained = isChain(sequence)
  if (chained !== (profile.tokens === 'epoxy')) {
    throw wrong(
      profile,
      name,
      chained ? 'has a chain, which needs "tokens: epoxy"' : 'has images, which need "tokens: native"',
    )
  }
  // `epoxy_client` has none, so that such a node would come to stage 2 and no further.
  if (chained && profile.evidence[name].includes('certificate'))
    throw wrong(
      profile,
      name,
      'has a chain, whose client presents no certificate: require "secret" or "address"',
    )
  if (chained) return
  for (const stage of [sequence.stage2, sequence.stage3]) imagesOfStage(stage).forEach(parseImageSource)
  const fault = joinFault(sequence.join)
  if (fault !== undefined) throw wrong(profile, `${name}.join.${fault.at}`, fault.message)
  if (addressOnly && handsOutCredential(sequence.join))
    refuseAddressOnly(profile, `hand out ${sequence.join.kind} credentials`)
}

/**
 * Whether booting this profile gives a machine what a cluster takes for proof. What a chain of URLs hands out is not ours to
 * see, so it counts.
 */
export function handsOutCredentials(profile: Profile): boolean {
  if (profile.extensions !== undefined) return true
  if (profile.identity !== undefined) return true
  return [profile.boot, profile.reinstall].some(
    (sequence) => typeof sequence === 'object' && (isChain(sequence) || handsOutCredential(sequence.join)),
  )
}

/** Whether a sequence is a chain of the user's own URLs. */
export function isChain(sequence: Sequence): sequence is ChainSequence {
  return typeof sequence === 'object' && 'chain' in sequence
}

/** Any local user of a running node has its address, so an address alone opens nothing that matters unasked. */
function refuseAddressOnly(profile: Profile, what: string): void {
  if (profile.acceptAddressOnly) return
  throw new PawlError(
    'invalid',
    `profile "${profile.name}" would ${what} to whoever has the node's address`,
    {
      hint: 'require "secret" or "certificate" as evidence, or say acceptAddressOnly: true (SECURITY.md tells what that gives up)',
    },
  )
}

function wrong(profile: Profile, field: string, what: string): PawlError {
  return new PawlError('invalid', `profile "${profile.name}": ${field} ${what}`)
}
