import { listEvents } from '../../src/storage/events.ts'
import type { EventRow } from '../../src/storage/tables.ts'
import { withStorage } from './helpers.ts'

/** The events that backups left. */
export function backupRecord(database: string): Promise<EventRow[]> {
  return withStorage(database, ({ db }) => listEvents(db, { kind: 'backup-made', limit: 10 }))
}
