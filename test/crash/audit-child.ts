/**
 * Signs a checkpoint and removes old events, in a process that ends without a warning before a given statement of its SQL.
 * Run with: DATABASE FOLDER N, where 0 is never.
 */
import type { BootContext } from '../../src/boot/context.ts'
import { makeCheckpoint } from '../../src/fleet/checkpoints.ts'
import { byServer } from '../../src/fleet/operators.ts'
import { trimOldEvents } from '../../src/fleet/retention.ts'
import { openCheckpointSigner } from '../../src/pki/checkpoint-key.ts'
import { openStorage } from '../../src/storage/database.ts'
import { dieAtStatement } from './statements.ts'

const [database = '', folder = '', n = ''] = process.argv.slice(2)
const storage = await openStorage(database)
const context = {
  storage,
  clock: () => new Date('2026-11-21T06:00:00.000Z'),
  settings: { publicUrl: 'https://boot.example.test' },
  rootCertificate: () => '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
} as unknown as BootContext // all that these two use

const statements = dieAtStatement('before', Number(n))

const signer = openCheckpointSigner(folder)
await makeCheckpoint(context, signer, byServer)
await trimOldEvents(context, signer, 30)
await storage.close()
process.send?.(statements())
