import { type Api, openApi } from './api.ts'
import { type Connection, findConnection } from './connection.ts'
import type { Io, LocalCommands } from './io.ts'
import type { Output } from './output.ts'

/** The flags that every command takes. */
export interface GlobalFlags {
  readonly data?: string
  readonly context?: string
  readonly json?: true
}

/** What a command works with. */
export interface Context {
  readonly io: Io
  readonly output: Output
  readonly local: LocalCommands
  /** Known once the command line is read: commands ask when they run. */
  readonly flags: () => GlobalFlags
}

/** Finds the server and runs `work` against it. */
export async function withApi<T>(
  context: Context,
  work: (api: Api, connection: Connection) => Promise<T>,
): Promise<T> {
  const { data, context: name } = context.flags()
  const connection = await findConnection(context.io.env, data, name)
  const api = openApi(connection)
  try {
    return await work(api, connection)
  } finally {
    api.close()
  }
}

/** Shows an answer: as it is with `--json`, else as `show` does for people. */
export function answer<T>(context: Context, value: T, show: (value: T) => void): void {
  if (context.flags().json) context.output.json(value)
  else show(value)
}
