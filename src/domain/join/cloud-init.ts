import { isPawlError, PawlError } from '../../errors.ts'
import Type, { type Static } from '../schema.ts'
import { type DocumentValues, documentFault, readYaml, renderDocument } from './document.ts'
import type { JoinKind } from './kind.ts'

const settings = Type.Object(
  {
    /** `#cloud-config`, shown to operators. Either this or `secretUserData`. */
    userData: Type.Optional(Type.String({ minLength: 1, maxLength: 32_768 })),
    /** The same where it holds a secret: sealed, and shown as `***`. */
    secretUserData: Type.Optional(Type.String({ minLength: 1, maxLength: 32_768 })),
    /** `#cloud-config` that user data stands above. */
    vendorData: Type.Optional(Type.String({ minLength: 1, maxLength: 16_384 })),
    /** Network configuration, version 1 or 2. Left out, cloud-init leaves the network as it is. */
    networkConfig: Type.Optional(Type.String({ minLength: 1, maxLength: 16_384 })),
  },
  { additionalProperties: false },
)

export type CloudInitSettings = Static<typeof settings>

/** The files of cloud-init's NoCloud, as it asks for them below its seed URL. */
export const noCloudFiles = ['meta-data', 'user-data', 'vendor-data', 'network-config'] as const
export type NoCloudFile = (typeof noCloudFiles)[number]

/** Gives the node's own cloud-init user data, and waits for what becomes of it. */
export const cloudInit: JoinKind<typeof settings> = {
  settings,
  secretSettings: ['secretUserData'],
  template: 'join-cloud-init.sh',
  variables: () => ({}), // what it is given is of the boot: boot/join-seed.ts
  // User data nearly always holds what a node is let in with, marked as secret or not.
  credential: () => 'static',
  fault(written) {
    if ((written.userData === undefined) === (written.secretUserData === undefined))
      return { at: 'userData', message: 'or secretUserData is needed: one of the two' }
    for (const [at, text] of Object.entries(written)) {
      const fault = documentFault(at, text, (rendered) => checkDocument(at, rendered))
      if (fault !== undefined) return fault
    }
    return undefined
  },
}

/** Throws `render-failed` where cloud-init would not take a rendered document, or would pass over it with a warning. */
function checkDocument(at: string, text: string): Record<string, unknown> {
  if (at !== 'networkConfig' && !/^#cloud-config[ \t]*(\n|$)/.test(text))
    throw new PawlError('render-failed', 'does not begin with the line "#cloud-config"')
  const read = readYaml(text)
  if ('fault' in read) throw new PawlError('render-failed', read.fault)
  if (at === 'networkConfig') networkOf(read.value)
  return read.value
}

/** Network configuration is written with or without `network:` above it. */
function networkOf(value: Record<string, unknown>): Record<string, unknown> {
  const network = 'network' in value ? value.network : value
  const isMapping = typeof network === 'object' && network !== null && !Array.isArray(network)
  const inner = (isMapping ? network : {}) as Record<string, unknown>
  if (inner.version !== 1 && inner.version !== 2)
    throw new PawlError('render-failed', 'needs "version: 1" or "version: 2"')
  return inner
}

/** What one node is given: all that its seed URL answers. */
export interface NoCloudSeed {
  readonly files: Readonly<Record<NoCloudFile, string>>
  /** The network configuration as a file of `/etc/cloud/cloud.cfg.d`; undefined where there is none. */
  readonly network: string | undefined
}

/**
 * Renders all of it with a node's values; throws `render-failed` naming the setting. What is not set is an empty file: cloud-init asks ten
 * times for one that it is told is not there.
 */
export function renderNoCloud(given: CloudInitSettings, values: DocumentValues): NoCloudSeed {
  const rendered = (
    at: keyof CloudInitSettings,
  ): { text: string; value: Record<string, unknown> | undefined } => {
    const written = given[at]
    if (written === undefined) return { text: '', value: undefined }
    try {
      const text = renderDocument(written, values)
      return { text, value: checkDocument(at, text) }
    } catch (error) {
      throw isPawlError(error)
        ? new PawlError('render-failed', `join: settings.${at} ${error.message}`)
        : error
    }
  }
  const network = rendered('networkConfig')
  return {
    files: {
      'meta-data': metaData(values),
      'user-data': rendered(given.userData === undefined ? 'secretUserData' : 'userData').text,
      'vendor-data': rendered('vendorData').text,
      'network-config': network.text,
    },
    network:
      network.value === undefined ? undefined : `${JSON.stringify({ network: networkOf(network.value) })}\n`,
  }
}

/** JSON is YAML, with nothing in it that could be read in two ways. */
function metaData({ host, instanceId, profile, sequence, labels }: DocumentValues): string {
  const pawl = { profile, sequence, labels }
  return `${JSON.stringify({ 'instance-id': instanceId, 'local-hostname': host, pawl }, null, 2)}\n`
}
