import { isIP } from 'node:net'
import type { BootContext } from '../boot/context.ts'
import { type SiteScriptOf, siteScript } from '../boot/site-script.ts'
import { type MediaNetwork, type MediaNetworkWords, parseMediaNetwork } from '../domain/media-network.ts'
import { PawlError } from '../errors.ts'
import { findProfile, readProfile } from '../storage/fleet.ts'
import { findNode } from '../storage/nodes.ts'
import { noSuchNode } from './change.ts'

/** What boot media of a node are made of, all but its secret. */
export interface MediaParts {
  readonly node: string
  /** `autoexec.ipxe`: takes the secret from `pawl/secret.ipxe` beside it. */
  readonly siteScript: string
  readonly publicUrl: string
  /** What the media must trust, PEM. */
  readonly ca: string
  /** Whether the node has a secret, which a new one would replace. */
  readonly secretIssued: boolean
  /** Whether its profile looks at the secret. */
  readonly secretWanted: boolean
  /** Whether its profile wants a client certificate. */
  readonly certificateWanted: boolean
}

type MediaScript = SiteScriptOf & { readonly network: MediaNetwork }

/** Renders a node's site script for boot media. Changes nothing. Throws `not-found`, and `invalid` for settings that cannot be. */
export async function mediaParts(
  context: BootContext,
  name: string,
  words: MediaNetworkWords,
): Promise<MediaParts> {
  const network = parseMediaNetwork(words)
  checkReaches(context.entry.publicUrl, network)
  const { db } = context.storage
  const node = await findNode(db, name)
  if (node === undefined) throw noSuchNode(name)
  const row = node.profile === null ? undefined : await findProfile(db, node.profile)
  const profile = row === undefined ? undefined : readProfile(row)
  const of = {
    host: node.name,
    secretFile: true,
    network,
    ...(profile === undefined ? {} : { whenServerAbsent: profile.whenServerAbsent }),
  }
  const script = siteScript(context, of)
  checkCarried(context, of, script)
  const wanted = [...(profile?.evidence.boot ?? []), ...(profile?.evidence.reinstall ?? [])]
  return {
    node: node.name,
    siteScript: script,
    publicUrl: context.entry.publicUrl,
    ca: context.entry.ca,
    secretIssued: node.secret_id !== null,
    secretWanted: wanted.includes('secret'),
    certificateWanted: wanted.includes('certificate'),
  }
}

/** An address of one family does not lead to an address of the other. */
function checkReaches(publicUrl: string, { address }: MediaNetwork): void {
  const family = isIP(new URL(publicUrl).hostname.replace(/^\[|\]$/g, ''))
  if (address === undefined || family === 0 || isIP(address) === family) return
  throw new PawlError('invalid', `a machine with the address ${address} cannot reach ${publicUrl}`, {
    hint: `give it an IPv${family} address`,
  })
}

/** An operator's own template may be older than these settings: media that leave one out would look right and not boot. */
function checkCarried(context: BootContext, of: MediaScript, script: string): void {
  const without: readonly (readonly [string, MediaScript])[] = [
    ['secretFile', { ...of, secretFile: false }],
    ...Object.entries(of.network).map(
      ([name, value]) => [name, { ...of, network: { ...of.network, [name]: otherThan(value) } }] as const,
    ),
  ]
  const lost = without.find(([, other]) => siteScript(context, other) === script)
  if (lost === undefined) return
  throw new PawlError(
    'render-failed',
    `the template autoexec.ipxe of this server makes nothing of "${lost[0]}"`,
    {
      hint: 'bring it up to date with the one that Pawl comes with, or remove it from ipxe-templates in the data folder',
    },
  )
}

function otherThan(value: string | number): string | number {
  return typeof value === 'number' ? (value % 4094) + 1 : `${value}0`
}
