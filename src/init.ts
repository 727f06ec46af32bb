import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import {
  type CertificateChain,
  expiryOf,
  parseChain,
  parsePublisherName,
  writeChain,
} from './domain/publisher.ts'
import { hashSecret, parseToken, type TokenId, tokenFromRandom } from './domain/token.ts'
import { PawlError } from './errors.ts'
import { openAuthority } from './pki/authority.ts'
import { initData } from './pki/data-folder.ts'
import { createFile, findPublicFile, readSecretFile, writeSecretFile } from './pki/key-file.ts'
import { signingKeyBits } from './pki/profiles.ts'
import { generateKey } from './pki/x509.ts'
import { isPostgresUrl, openStorage, type Tx } from './storage/database.ts'
import { appendEvent } from './storage/events.ts'
import { findOperator, insertOperator } from './storage/operators.ts'
import { findPublisher, findPublisherByFingerprint, insertPublisher } from './storage/publishers.ts'

/** What `pawl init` was asked for. */
export interface InitOptions {
  readonly dataDir: string
  readonly database: string
  readonly publicUrl: string | undefined
  readonly names: readonly string[]
  readonly now: Date
}

/** What there is now, and what of it is new. */
export interface InitResult {
  readonly ca: string
  readonly adminToken: string
  readonly created: readonly string[]
}

/**
 * Makes the data folder, CA, keys, database, first admin token and first publisher. Run again it changes nothing; killed in
 * the middle, the next run goes on. The token's file is written before its hash is stored: a token without a file would be
 * lost. So it is with the publisher's key, its certificate, and its place in the database.
 */
export async function initPawl(options: InitOptions): Promise<InitResult> {
  // A PostgreSQL that cannot be reached leaves no folder behind; the file of SQLite is in the folder.
  if (isPostgresUrl(options.database)) await (await openStorage(options.database)).close()
  const made = await initData(options)
  const file = join(options.dataDir, 'admin.token')
  const created = [...made.created]
  if (!existsSync(file)) {
    writeSecretFile(file, `${tokenFromRandom(randomBytes(33)).text}\n`)
    created.push('admin.token')
  }
  const publisher = await ensurePublisher(options, created)
  await store(options, readSecretFile(file).trim(), file, publisher)
  return { ca: join(options.dataDir, 'ca.crt'), adminToken: file, created }
}

/**
 * The first publisher's key and certificate, with which `pawl image publish --data DIR` signs. A certificate whose key is
 * gone stays: the key may have been moved to where images are built.
 */
async function ensurePublisher(options: InitOptions, created: string[]): Promise<CertificateChain> {
  const [keyFile, certificateFile] = ['publisher.key', 'publisher.crt'].map((name) =>
    join(options.dataDir, name),
  ) as [string, string]
  const known = findPublicFile(certificateFile)
  if (known !== undefined) return parseChain(known)
  if (!existsSync(keyFile) && writeSecretFile(keyFile, await generateKey(signingKeyBits)))
    created.push('publisher.key')
  const key = readSecretFile(keyFile)
  const publisher = parsePublisherName('local')
  const made = await openAuthority(options.dataDir).issueCodeSigning({ publisher, key, now: options.now })
  if (createFile(certificateFile, made, 0o644)) created.push('publisher.crt')
  return parseChain(findPublicFile(certificateFile) ?? made) // of two that init at once, one made the file
}

async function store(
  options: InitOptions,
  text: string,
  file: string,
  publisher: CertificateChain,
): Promise<void> {
  const token = parseToken(text)
  if (token === undefined) {
    throw new PawlError('key-unreadable', `${file} does not hold an operator token`, {
      hint: 'remove it and run pawl init again',
    })
  }
  const storage = await openStorage(options.database)
  try {
    await storage.transaction(async (tx) => {
      await storeAdmin(tx, token, options.now)
      await storePublisher(tx, publisher, options.now)
    })
  } finally {
    await storage.close()
  }
}

async function storeAdmin(tx: Tx, token: { id: TokenId; secret: string }, now: Date): Promise<void> {
  if ((await findOperator(tx, token.id)) !== undefined) return
  await insertOperator(tx, adminRow(token.id, token.secret, now))
  await note(tx, now, 'operator-created', { name: 'admin', role: 'admin' })
}

/** Another data folder of the same database may have the name already: then the certificate tells them apart. */
async function storePublisher(tx: Tx, chain: CertificateChain, now: Date): Promise<void> {
  const { fingerprint } = chain
  if ((await findPublisherByFingerprint(tx, fingerprint)) !== undefined) return
  const name = (await findPublisher(tx, 'local')) === undefined ? 'local' : `local-${fingerprint.slice(0, 8)}`
  await insertPublisher(tx, {
    name,
    fingerprint,
    certificates: writeChain(chain),
    created_at: now.toISOString(),
    created_by: 'operator:init',
    revoked_at: null,
    revoked_by: null,
  })
  await note(tx, now, 'publisher-registered', {
    publisher: name,
    fingerprint,
    subject: chain.leaf.subject,
    expiresAt: expiryOf(chain).toISOString(),
  })
}

function note(
  tx: Tx,
  at: Date,
  kind: 'operator-created' | 'publisher-registered',
  detail: Record<string, unknown>,
): Promise<void> {
  return appendEvent(tx, {
    kind,
    at,
    node: null,
    session: null,
    actor: 'operator:init',
    source: null,
    detail,
  })
}

function adminRow(id: TokenId, secret: string, now: Date): Parameters<typeof insertOperator>[1] {
  return {
    id,
    name: 'admin',
    role: 'admin',
    secret_hash: hashSecret(secret),
    created_at: now.toISOString(),
    expires_at: null,
    revoked_at: null,
    scope: null,
  }
}
