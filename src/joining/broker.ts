import type { JoinFault } from '../domain/join/kind.ts'
import type { BackendFault } from '../domain/join-credential.ts'

/**
 * A broker has a credential made at a cluster for one node and one boot, and has it removed again. What it is told is made up and
 * stored before (`boot/join-credential.ts`), so that whoever repeats a call after a crash makes the same one. Its calls are
 * made outside of every transaction, are bounded in time, and are at most so many at once (`calls.ts`).
 */
export interface Broker<Settings> {
  /** Makes up a credential: its name at the cluster, which is no secret, and the secret. */
  makeUp(randomBytes: (size: number) => Uint8Array): { readonly handle: string; readonly secret: string }
  /** Has it made. `taken`: somebody else has one of this name, so that another must be made up. Throws BrokerFault. */
  make(credential: Credential, settings: Settings): Promise<'made' | 'taken'>
  /** Has it removed; one that is not there is gone. Says whether there was one. Throws BrokerFault. */
  remove(handle: string, settings: Settings): Promise<boolean>
  /** The API that is asked: calls to it are bounded together. Throws BrokerFault. */
  backend(settings: Settings): string
  /** How long one is good for, where the profile says it. */
  lifetimeSeconds(settings: Settings): number | undefined
  /** What the join's template is given of it. */
  variables(
    settings: Settings,
    credential: Pick<Credential, 'handle' | 'secret'>,
  ): Readonly<Record<string, unknown>>
  /** All that is wrong with settings, as far as they themselves tell: the setting, and the rest of the sentence about it. */
  faults(settings: Settings, now: Date): readonly JoinFault[]
  /** Asks the cluster how it is. */
  check(settings: Settings, now: Date): Promise<BrokerFinding[]>
}

/** What is made. */
export interface Credential {
  readonly handle: string
  readonly secret: string
  readonly expiresAt: Date
  readonly node: string
  readonly session: string
  /** Whether it may have been made before, by a call whose end nobody saw. */
  readonly again: boolean
}

/** How a cluster is, for `pawl doctor`. */
export interface BrokerFinding {
  readonly level: 'ok' | 'warn' | 'fail'
  readonly found: string
  readonly advice?: string
}

/** Why a cluster did not do it. The message is shown to operators: it holds no secret. */
export class BrokerFault extends Error {
  override readonly name = 'BrokerFault'
  readonly fault: BackendFault
  readonly retryAfterSeconds: number | undefined

  constructor(fault: BackendFault, message: string, retryAfterSeconds?: number) {
    super(message)
    this.fault = fault
    this.retryAfterSeconds = retryAfterSeconds
  }
}
