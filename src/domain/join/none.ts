import Type from '../schema.ts'
import type { JoinKind } from './kind.ts'

const settings = Type.Record(
  Type.String({ pattern: '^[a-z][a-zA-Z0-9]{0,31}$' }),
  Type.String({ maxLength: 256 }),
)

/** Joins nothing: the node writes its settings down. */
export const none: JoinKind<typeof settings> = {
  settings,
  secretSettings: [],
  template: 'join-none.sh',
  variables: (given) => ({ settings: Object.entries(given).map(([name, value]) => ({ name, value })) }),
  credential: () => 'none',
}
