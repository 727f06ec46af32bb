import { named, type Setting } from './config-setting.ts'
import {
  parseFile,
  parseGroupRoleSetting,
  parseIssuer,
  parsePublicUrl,
  parseWord,
  wholeNumber,
} from './config-values.ts'

const day = 86_400

/** How people sign in. */
export const signInSettings = {
  operatorUrl: {
    ...named('operator-url', 'URL', null),
    meaning:
      'How browsers reach the operator listener; its host is a name of the certificate. Needed with `oidcIssuer`.',
    parse: parsePublicUrl,
  },
  oidcIssuer: {
    ...named('oidc-issuer', 'URL', null),
    meaning:
      'The OpenID Connect provider that people sign in through, as it calls itself. Without it only tokens and certificates count.',
    parse: parseIssuer,
  },
  oidcClientId: {
    ...named('oidc-client-id', 'name', null),
    meaning:
      'What the provider calls this server. Its redirect URI there is `operatorUrl` and `/auth/callback`.',
    parse: parseWord,
  },
  oidcClientSecretFile: {
    ...named('oidc-client-secret-file', 'file', null),
    meaning:
      'A file (0600) with the secret that the provider gave. Without it: a public client, by PKCE alone.',
    parse: parseFile,
  },
  oidcScopes: {
    ...named('oidc-scopes', 'name', null),
    meaning: 'What is asked of the provider. Without it: `openid`, `profile` and `email`.',
    parse: parseWord,
    many: true,
  },
  oidcGroupsClaim: {
    ...named('oidc-groups-claim', 'name', 'groups'),
    meaning: 'The claim that lists groups; a path such as `realm_access.roles` where it is inside another.',
    parse: parseWord,
  },
  oidcNameClaim: {
    ...named('oidc-name-claim', 'name', 'email'),
    meaning: 'The claim that is the name in the log. `email` counts only where the provider verified it.',
    parse: parseWord,
  },
  oidcRoles: {
    ...named('oidc-roles', 'name', null),
    meaning:
      '`GROUP=ROLE`: what members of a group may do; the highest counts. Who is in none cannot sign in.',
    parse: parseGroupRoleSetting,
    many: true,
  },
  oidcCaFile: {
    ...named('oidc-ca-file', 'file', null),
    meaning: 'The CA of its certificate, PEM. Without it: the system’s CAs.',
    parse: parseFile,
  },
  signInIdleSeconds: {
    ...named('sign-in-idle-seconds', 'seconds', '3600'),
    meaning: 'A browser is signed out this long after its last request.',
    parse: wholeNumber(300, 30 * day),
  },
  signInMaxSeconds: {
    ...named('sign-in-max-seconds', 'seconds', '43200'),
    meaning: 'And at the latest this long after it signed in. Not below `signInIdleSeconds`.',
    parse: wholeNumber(300, 30 * day),
  },
  loginTokenSeconds: {
    ...named('login-token-seconds', 'seconds', '43200'),
    meaning: 'How long the token is good that `pawl login` gets for a person.',
    parse: wholeNumber(300, 30 * day),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
