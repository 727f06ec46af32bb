import { createHash, createHmac } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from './config.ts'
import { bootSettings } from './config-boot.ts'
import { listIpxe } from './ipxe/folder.ts'
import { checkpointKeyFile, openCheckpointSigner } from './pki/checkpoint-key.ts'
import { findPublicFile } from './pki/key-file.ts'
import { authorityFiles, mainRootFile } from './pki/places.ts'
import { settingsKey } from './pki/settings-key.ts'

/**
 * What must be the same on all servers of one database, by name. Of a key it is a fingerprint from which the key cannot be
 * had; of a setting its value.
 */
export type Marks = Readonly<Record<string, string>>

/** Differences that break boots or seals; others are worth a look. */
export const graveMarks: ReadonlySet<string> = new Set([
  'root of the CA',
  'root that machines trust',
  'settings key',
  'CA of operator certificates',
  'CA of node certificates',
  'publicUrl',
  'oldPublicUrl',
  'identityIssuer',
])

const settings = [
  ...(Object.keys(bootSettings) as (keyof typeof bootSettings)[]),
  'publicUrl',
  'oldPublicUrl',
  'operatorUrl',
  'artifacts',
  's3Endpoint',
  's3PublicEndpoint',
  'bootClientCertificates',
  'identityIssuer',
  'identitySeconds',
  'identityOverlapSeconds',
  'identityKeyDays',
  'identityKeyLeadSeconds',
  'checkpointSeconds',
  'eventRetentionDays',
  'oidcIssuer',
  'oidcClientId',
  'webhookAllowedNetworks',
  'extensionAllowedNetworks',
  'otlpEndpoint',
] as const satisfies readonly (keyof Config)[]

/** Reads them from a data folder and its settings. Throws `key-unreadable` where the settings key cannot be read. */
export async function readMarks(config: Config): Promise<Marks> {
  const { dataDir } = config
  const values = settings.map((name) => [name, JSON.stringify(config[name] ?? null)] as const)
  return {
    'root of the CA': digestOf(findPublicFile(authorityFiles(dataDir).rootCertificate)),
    'root that machines trust': digestOf(findPublicFile(mainRootFile(dataDir, config))),
    'issuing certificate': digestOf(findPublicFile(authorityFiles(dataDir).issuingCertificate)),
    'next CA': digestOf(findPublicFile(authorityFiles(dataDir, 'next').rootCertificate)),
    'settings key': createHmac('sha256', settingsKey(dataDir)).update('pawl replica mark').digest('hex'),
    'CA of operator certificates': digestOf(findPublicFile(join(dataDir, 'pki', 'clients.crt'))),
    'CA of node certificates': digestOf(findPublicFile(join(dataDir, 'pki', 'nodes.crt'))),
    'checkpoint key': await checkpointMark(dataDir),
    'iPXE binaries': await ipxeMark(dataDir),
    'iPXE templates': templatesMark(join(dataDir, 'ipxe-templates')),
    ...Object.fromEntries(values),
  }
}

/** Names of what differs between two of them, in the order of the first. */
export function differingMarks(one: Marks, other: Marks): string[] {
  return [...new Set([...Object.keys(one), ...Object.keys(other)])].filter(
    (name) => one[name] !== other[name],
  )
}

const none = 'none'

function digestOf(text: string | undefined): string {
  return text === undefined ? none : createHash('sha256').update(text).digest('hex')
}

/** The signer makes its key where there is none, and whoever looks must not. */
async function checkpointMark(dataDir: string): Promise<string> {
  if (!existsSync(checkpointKeyFile(dataDir))) return none
  return (await openCheckpointSigner(dataDir).key()).kid
}

async function ipxeMark(dataDir: string): Promise<string> {
  const { binaries } = await listIpxe(dataDir)
  if (binaries.length === 0) return none
  return digestOf(
    binaries
      .map(({ name, sha256 }) => `${name} ${sha256}`)
      .sort()
      .join('\n'),
  )
}

function templatesMark(folder: string): string {
  if (!existsSync(folder)) return none
  const names = readdirSync(folder).filter((name) => name.endsWith('.ipxe'))
  const texts = names.sort().map((name) => `${name} ${digestOf(findPublicFile(join(folder, name)))}`)
  return texts.length === 0 ? none : digestOf(texts.join('\n'))
}
