import type { SettingsSealer } from '../../boot/settings-sealer.ts'
import type { SignInSettings } from '../../fleet/sign-in-settings.ts'
import type { Provider } from './provider.ts'

/** Sign-in for people, ready: left out where no provider is set up. */
export interface SignIn {
  readonly settings: SignInSettings
  readonly provider: Provider
  /** Seals what a browser keeps between leaving for the provider and coming back; one key for all replicas. */
  readonly sealer: SettingsSealer
}
