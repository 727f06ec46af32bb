import type { BootContext } from './context.ts'
import { ringAlgorithm } from './key-ring.ts'

/** Who says who a node is: the public URL of this installation, or the URL that the settings name. */
export function identityIssuer({ settings }: Pick<BootContext, 'settings'>): string {
  return settings.identity.issuer ?? settings.publicUrl
}

/**
 * What is published at `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0 §3), as far as who issues tokens for
 * machines has it: nobody signs in here, so there is no authorization endpoint, as with the issuers of Kubernetes and of CI services.
 */
export function identityConfiguration(context: Pick<BootContext, 'settings'>): string {
  const issuer = identityIssuer(context)
  return JSON.stringify({
    issuer,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: [ringAlgorithm],
    claims_supported: [
      ...['iss', 'sub', 'aud', 'iat', 'exp', 'jti', 'cnf'],
      ...['node', 'session', 'sequence', 'profile', 'image', 'image_digest', 'evidence', 'labels'],
    ],
  })
}
