import { cleanConsole } from '../domain/console-text.ts'
import type { StageName } from '../domain/stage.ts'
import { PawlError } from '../errors.ts'
import { logsSent, putLog, trimLogs } from '../storage/spans.ts'
import type { BootContext } from './context.ts'
import { openToken } from './open-token.ts'
import { type Asking, inTransaction, recordingRefusals } from './work.ts'

/** The last lines of a console, as an agent sends them. */
export interface ConsoleLog extends Asking {
  readonly token: string | undefined
  /** Whose console, by the agent's word. */
  readonly stage: StageName
  readonly body: Uint8Array
}

/** A session may send so often. An agent sends when it fails, and then begins anew. */
const maxOfSession = 20
const leastSeconds = 5
/** Of a node's sessions the last so many keep theirs: a machine that fails again and again must not fill the disk. */
const maxOfNode = 10

/**
 * Keeps the last lines of a node's console, in place of those of the same stage before. Opened by the report token, and by nothing else;
 * it is taken after the session's end too, since an agent reports first. Durable when it resolves. Throws a Refusal,
 * `too-many-attempts`, or `overloaded` while the disk is nearly full: boots need what is left.
 */
export function keepConsoleLog(context: BootContext, { body, stage, ...asking }: ConsoleLog): Promise<void> {
  return recordingRefusals(context, asking, async () => {
    const hasRoom = (await context.spans?.hasRoom()) ?? true
    await inTransaction(context, async (work) => {
      const { node, session } = await openToken(work, asking, asking.token, {
        kind: 'report',
        evenIfEnded: true,
      })
      if (!hasRoom) throw new PawlError('overloaded', 'the disk is nearly full: no console is kept')
      const sent = await logsSent(work.tx, session.id)
      const soon = sent.at !== null && work.now.getTime() - Date.parse(sent.at) < leastSeconds * 1000
      if (soon || sent.times >= maxOfSession)
        throw new PawlError('too-many-attempts', 'this boot has sent its console too often', {
          retryAfterSeconds: leastSeconds,
        })
      const text = cleanConsole(body)
      await putLog(work.tx, { session: session.id, stage, at: work.now.toISOString(), text })
      await trimLogs(work.tx, node.id, maxOfNode)
    })
  })
}
