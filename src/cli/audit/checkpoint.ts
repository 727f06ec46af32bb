import { readFile } from 'node:fs/promises'
import { compactVerify, createLocalJWKSet, errors, type JSONWebKeySet } from 'jose'
import {
  authorityOf,
  type ChainPlace,
  type CheckpointStatement,
  checkpointAlgorithm,
  checkpointType,
  parseCheckpointFile,
  parseClaims,
  placesDigest,
} from '../../domain/checkpoint.ts'
import { isPawlError, PawlError } from '../../errors.ts'
import type { CheckpointKeySet, CheckpointWithPlaces } from '../answers.ts'
import type { Api } from '../api.ts'

/** A checkpoint whose signature was verified here, with the list that its digest is of. */
export interface VerifiedCheckpoint {
  readonly statement: CheckpointStatement
  readonly kid: string
  /** Where the key came from: from a file kept elsewhere, or from the server that is checked by it. */
  readonly keyFrom: 'file' | 'server'
  readonly places: readonly ChainPlace[]
  /** The keys that are believed: what retention removed since must be signed by one of them. */
  readonly keys: JSONWebKeySet
  /** The CAs of this installation: its root may have been rotated since. */
  readonly authorities: readonly string[]
}

/** Where to read it, and what to believe. */
export interface CheckpointSource {
  readonly file: string
  /** A JWK Set kept elsewhere. */
  readonly keyFile: string | undefined
  /** The root certificates that the server is believed by. */
  readonly ca: string
}

/** Reads a checkpoint's file, verifies its signature and finds its list. Throws `invalid`, `signature-invalid`, `conflict`. */
export async function readCheckpoint(api: Api, source: CheckpointSource): Promise<VerifiedCheckpoint> {
  const file = parseCheckpointFile(await readText(source.file))
  const { keyFile } = source
  const keys =
    keyFile === undefined
      ? await api.get<CheckpointKeySet>('/events/checkpoint-keys')
      : parseKeys(await readText(keyFile), keyFile)
  const believed = keys as unknown as JSONWebKeySet // jose looks at each key itself
  const { statement, kid } = await verifySignature(file.jws, believed, source)
  const authorities = checkInstallation(statement, source)
  const places = file.places ?? (await placesOfServer(api, statement))
  if (placesDigest(places) !== statement.places) {
    throw new PawlError(
      'conflict',
      file.places === undefined
        ? `the server's list of checkpoint ${statement.seq} is not the one that was signed`
        : `the list in ${source.file} is not the one that was signed`,
      {
        hint: 'find out who could write to it; a checkpoint kept with its list shows which chains were changed',
      },
    )
  }
  return {
    statement,
    kid,
    keyFrom: keyFile === undefined ? 'server' : 'file',
    places,
    keys: believed,
    authorities,
  }
}

async function verifySignature(
  jws: string,
  keys: JSONWebKeySet,
  { file, keyFile }: CheckpointSource,
): Promise<{ statement: CheckpointStatement; kid: string }> {
  try {
    const { payload, protectedHeader } = await compactVerify(jws, createLocalJWKSet(keys), {
      algorithms: [checkpointAlgorithm],
    })
    if (protectedHeader.typ !== checkpointType) throw new errors.JWSInvalid('it is of another type')
    return {
      statement: parseClaims(new TextDecoder().decode(payload)),
      kid: protectedHeader.kid ?? 'unknown',
    }
  } catch (cause) {
    if (isPawlError(cause)) throw cause
    const where = keyFile === undefined ? 'the server knows' : `${keyFile} holds`
    throw new PawlError(
      'signature-invalid',
      cause instanceof errors.JWKSNoMatchingKey
        ? `${file} was signed with a key that is none of those ${where}`
        : `the signature of ${file} is not right`,
      {
        hint:
          cause instanceof errors.JWKSNoMatchingKey
            ? 'after a change of keys, take the new ones with pawl event keys --out FILE, when the old ones have verified the last checkpoint before it'
            : 'trust nothing it says',
        cause,
      },
    )
  }
}

/** Returns the CAs of the installation, where the checkpoint's is one of them. */
function checkInstallation(
  { authority, issuer }: CheckpointStatement,
  { ca, file }: CheckpointSource,
): string[] {
  const certificates = ca.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
  const known = certificates.map(authorityOf)
  if (known.includes(authority)) return known
  throw new PawlError('conflict', `${file} is of another installation: ${issuer}`, {
    hint: 'its root certificate is not the one that this server is believed by; after a rotation of the root, give PAWL_CA the old one too',
  })
}

async function placesOfServer(api: Api, { seq }: CheckpointStatement): Promise<readonly ChainPlace[]> {
  const { places } = await api
    .get<CheckpointWithPlaces>(`/events/checkpoints/${seq}`)
    .catch((error: unknown) => {
      if (!isPawlError(error, 'not-found')) throw error
      throw new PawlError('conflict', `the server has no checkpoint ${seq}, and it signed one`, {
        hint: 'its database was set back to an older state, or made anew',
      })
    })
  if (places !== null) return places
  throw new PawlError('not-found', `the server keeps the list of checkpoint ${seq} no longer`, {
    hint: 'use a newer checkpoint, or one that was kept with its list: pawl event checkpoint --out FILE',
  })
}

function parseKeys(text: string, file: string): CheckpointKeySet {
  try {
    const value = JSON.parse(text) as { keys?: unknown }
    if (Array.isArray(value.keys)) return value as CheckpointKeySet
  } catch {
    // told below
  }
  throw new PawlError('invalid', `${file} is not a JWK Set`, {
    hint: 'make it with pawl event keys --out FILE',
  })
}

/** Reads a file that was named on the command line. */
export async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw fileFault(file, error)
  }
}

/** Why a file that was named cannot be used. */
export function fileFault(file: string, error: unknown): PawlError {
  const code = (error as NodeJS.ErrnoException | null)?.code ?? 'unknown'
  if (code === 'ENOENT') return new PawlError('not-found', `there is no ${file}`)
  if (code === 'EEXIST')
    return new PawlError('exists', `${file} is there already`, { hint: 'name a new file' })
  if (code === 'ENOSPC') return new PawlError('disk-full', `no room left to write ${file}`)
  return new PawlError('invalid', `${file} cannot be used (${code})`, { cause: error })
}
