/** The AWS SDK, loaded only where artifacts are kept in S3, and its errors as ours. */
import type { S3Client } from '@aws-sdk/client-s3'
import { PawlError } from '../errors.ts'

/** Where an S3-compatible object store is, and who we are there. */
export interface S3Settings {
  readonly bucket: string
  /** Before every key: empty, or ending in a slash. */
  readonly prefix: string
  /** `https://HOST[:PORT]` or `http://…`; AWS's own where there is none. */
  readonly endpoint?: string | undefined
  /** The same store as machines reach it, where that differs. */
  readonly publicEndpoint?: string | undefined
  readonly region: string
  readonly addressing: 'path' | 'host'
  /** Where there are none, AWS's own places are asked: variables, shared files, the role of the machine. */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined
  /** PEM of the CA that the endpoint's certificate must lead to; the system's where there is none. */
  readonly ca?: string | undefined
}

/** The parts of the SDK that are used. */
export type S3Sdk = typeof import('@aws-sdk/client-s3') &
  Pick<typeof import('@aws-sdk/lib-storage'), 'Upload'> &
  Pick<typeof import('@aws-sdk/s3-request-presigner'), 'getSignedUrl'>

/** Loads the SDK; throws `usage` where it is not installed. */
export async function loadSdk(load: (name: string) => Promise<unknown> = importSdk): Promise<S3Sdk> {
  const names = ['@aws-sdk/client-s3', '@aws-sdk/lib-storage', '@aws-sdk/s3-request-presigner']
  const parts = await Promise.all(names.map(load)).catch((cause: unknown) => {
    throw new PawlError('usage', 'artifacts in S3 need packages that are not installed', {
      hint: `install the optional dependencies: npm install ${names.join(' ')}`,
      cause,
    })
  })
  return Object.assign({}, ...(parts as object[])) as S3Sdk // what the three of them export
}

function importSdk(name: string): Promise<unknown> {
  return import(name)
}

/** Tries of one request that fails with what may pass, the first one included. */
const maxAttempts = 3
const connectMilliseconds = 5_000
/** A connection without a byte for so long is dead. Completing an upload of 8 GiB may be silent for a while. */
const silenceMilliseconds = 60_000
/** More requests than this wait for a connection. */
const maxConnections = 64

/** A client for one endpoint of the store. It logs nothing. */
export function openClient(sdk: S3Sdk, settings: S3Settings, endpoint: string | undefined): S3Client {
  const agent = { keepAlive: true, maxSockets: maxConnections }
  return new sdk.S3Client({
    region: settings.region,
    forcePathStyle: settings.addressing === 'path',
    maxAttempts,
    // Every artifact is checked by its own digest; stores that are not AWS do not know all of these.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // With it the SDK's handler takes an agent of its own for large bodies, which does not know our CA.
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: connectMilliseconds,
      socketTimeout: silenceMilliseconds,
      httpAgent: agent,
      httpsAgent: { ...agent, ...(settings.ca === undefined ? {} : { ca: settings.ca }) },
    },
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(settings.credentials === undefined ? {} : { credentials: settings.credentials }),
  })
}

/** The HTTP status of an answer that was an error; undefined where nothing answered. */
export function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } } | null)?.$metadata?.httpStatusCode
}

/** What went wrong at the store. Only name and words of the SDK's error go on: it may hold the request. */
export function storeUnavailable(what: string, error: unknown): PawlError {
  if (error instanceof PawlError) return error
  const { name, message, code } = error as { name?: string; message?: string; code?: string }
  const status = statusOf(error)
  const why = [code ?? name ?? 'unknown', ...(status === undefined ? [] : [`HTTP ${status}`])].join(', ')
  return new PawlError('store-unavailable', `the object storage cannot ${what} now (${why})`, {
    cause: new Error(`${name}: ${message}`),
    retryAfterSeconds: 10,
  })
}
