import type { GroupRole } from '../domain/sign-in.ts'

/** How people sign in, as the settings say; seconds. */
export interface SignInSettings {
  /** `https://HOST[:PORT]` of the operator listener, as browsers reach it. */
  readonly operatorUrl: string
  readonly issuer: string
  readonly groupsClaim: string
  readonly nameClaim: string
  readonly roles: readonly GroupRole[]
  /** A session ends after so long without a request. */
  readonly idleSeconds: number
  /** And at the latest after so long. */
  readonly maxSeconds: number
  /** What `pawl login` gets ends after so long. */
  readonly loginTokenSeconds: number
}
