import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { hashSecret, parseToken, type TokenId, tokenFromRandom } from './domain/token.ts'
import { PawlError } from './errors.ts'
import { initData } from './pki/data-folder.ts'
import { readSecretFile, writeSecretFile } from './pki/key-file.ts'
import { openStorage } from './storage/database.ts'
import { appendEvent } from './storage/events.ts'
import { findOperator, insertOperator } from './storage/operators.ts'

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
 * Makes the data folder, CA, keys, database and first admin token. Run again it changes nothing; killed in the middle,
 * the next run goes on. The token's file is written before its hash is stored: a token without a file would be lost.
 */
export async function initPawl(options: InitOptions): Promise<InitResult> {
  const made = await initData(options)
  const file = join(options.dataDir, 'admin.token')
  const created = [...made.created]
  if (!existsSync(file)) {
    writeSecretFile(file, `${tokenFromRandom(randomBytes(33)).text}\n`)
    created.push('admin.token')
  }
  await storeAdmin(options, readSecretFile(file).trim(), file)
  return { ca: join(options.dataDir, 'ca.crt'), adminToken: file, created }
}

async function storeAdmin(options: InitOptions, text: string, file: string): Promise<void> {
  const token = parseToken(text)
  if (token === undefined) {
    throw new PawlError('key-unreadable', `${file} does not hold an operator token`, {
      hint: 'remove it and run pawl init again',
    })
  }
  const storage = await openStorage(options.database)
  try {
    await storage.transaction(async (tx) => {
      if ((await findOperator(tx, token.id)) !== undefined) return
      await insertOperator(tx, adminRow(token.id, token.secret, options.now))
      await appendEvent(tx, {
        kind: 'operator-created',
        at: options.now,
        node: null,
        session: null,
        actor: 'operator:init',
        source: null,
        detail: { name: 'admin', role: 'admin' },
      })
    })
  } finally {
    await storage.close()
  }
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
