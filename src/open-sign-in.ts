import { hkdfSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { settingsSealer } from './boot/settings-sealer.ts'
import type { Config } from './config.ts'
import type { Clock } from './domain/clock.ts'
import { PawlError } from './errors.ts'
import type { SignIn } from './http/sign-in/options.ts'
import { openProvider } from './http/sign-in/provider.ts'
import { readSecretFile } from './pki/key-file.ts'
import { settingsKey } from './pki/settings-key.ts'

const usualScopes = ['openid', 'profile', 'email']

/** What people sign in by, from the settings; undefined where they name no provider. Nothing is asked of the provider yet. */
export function openSignIn(config: Config, clock: Clock): SignIn | undefined {
  const { oidcIssuer: issuer, oidcClientId: clientId, operatorUrl } = config
  if (issuer === undefined || clientId === undefined || operatorUrl === undefined) return undefined
  const { oidcGroupsClaim: groupsClaim, oidcNameClaim: nameClaim } = config
  const scopes = config.oidcScopes.length === 0 ? usualScopes : config.oidcScopes
  const clientSecret = readClientSecret(config.oidcClientSecretFile)
  const ca = readCa(config.oidcCaFile)
  return {
    settings: {
      operatorUrl,
      issuer,
      groupsClaim,
      nameClaim,
      roles: config.oidcRoles,
      idleSeconds: config.signInIdleSeconds,
      maxSeconds: config.signInMaxSeconds,
      loginTokenSeconds: config.loginTokenSeconds,
    },
    provider: openProvider({ issuer, clientId, clientSecret, scopes, groupsClaim, nameClaim, ca }, clock),
    // A key of its own: what strangers have sealed by the thousand must not wear out the one of profiles' secrets.
    sealer: settingsSealer(
      new Uint8Array(hkdfSync('sha256', settingsKey(config.dataDir), '', 'pawl sign-in cookie', 32)),
    ),
  }
}

function readClientSecret(file: string | undefined): string | undefined {
  if (file === undefined) return undefined
  const secret = readSecretFile(file, 'make it with the secret that the provider gave, mode 0600').trim()
  if (secret !== '' && secret.length <= 4096) return secret
  throw new PawlError('usage', `${file} does not hold a client secret`)
}

function readCa(file: string | undefined): string | undefined {
  if (file === undefined) return undefined
  try {
    const text = readFileSync(file, 'utf8')
    if (text.includes('-----BEGIN CERTIFICATE-----')) return text
  } catch (cause) {
    throw new PawlError('usage', `the CA of the sign-in provider, ${file}, cannot be read`, { cause })
  }
  throw new PawlError('usage', `the CA of the sign-in provider, ${file}, is not a PEM certificate`)
}
