import type { Storage } from '../storage/database.ts'
import { listEndedOf } from '../storage/sessions.ts'
import type { Transfers } from './transfers.ts'

/**
 * A register whose cuts reach the other processes on the database, and that cuts what ended there. A word can be lost (the
 * process that ended the session was killed before it told): then the transfer is cut at its next renewal, within a minute.
 */
export function shareTransfers(
  own: Transfers,
  { db, wake }: Pick<Storage, 'db' | 'wake'>,
  onError: (error: unknown) => void,
): Transfers {
  /** What ended while nobody heard. */
  async function lookFor(sessions: readonly string[]): Promise<void> {
    for (const session of await listEndedOf(db, sessions)) own.cut(session)
  }

  wake.hear('session-ended', (words) => {
    if (words === undefined) lookFor(own.sessions()).catch(onError)
    else for (const session of words) own.cut(session)
  })
  return {
    ...own,
    cut(session) {
      own.cut(session)
      wake.tell('session-ended', session)
    },
  }
}
