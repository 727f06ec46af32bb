import type { Static, TSchema } from '../schema.ts'

/** What a join gives the node to be let in with: nothing, a secret of the profile's settings, or one made for this boot. */
export type CredentialKind = 'none' | 'static' | 'brokered'

/** What is wrong with settings that their schema cannot say: the field, and the rest of the sentence about it. */
export interface JoinFault {
  readonly at: string
  readonly message: string
}

/** Of which boot a join is. */
export interface JoinPlace {
  readonly host: string
  readonly session: string
  readonly profile: string
  readonly sequence: string
  /** The node's; left out where no node is meant yet (`profile apply`): then each label is taken to be there. */
  readonly labels?: Readonly<Record<string, string>>
}

/** One way to join a cluster, as data. */
export interface JoinKind<Settings extends TSchema = TSchema> {
  readonly settings: Settings
  /** Which settings are sealed at rest and shown as `***`. Each is text, and may be optional. */
  readonly secretSettings: readonly string[]
  /** The file in `ipxe-templates` that is rendered for the node. */
  readonly template: `join-${string}.sh`
  /** What the template is given beside host, session and profile; the engine holds it against its table. */
  variables(settings: Static<Settings>, of: JoinPlace): Readonly<Record<string, unknown>>
  credential(settings: Static<Settings>): CredentialKind
  fault?(settings: Static<Settings>): JoinFault | undefined
}
