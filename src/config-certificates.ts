import { named, type Setting } from './config-setting.ts'
import { oneOf, parseFile, parseListen, parsePublicUrl } from './config-values.ts'

/** By what the listeners show who they are, and by which address machines come that know an older root. */
export const certificateSettings = {
  bootEcdsa: {
    ...named('boot-ecdsa', 'word', 'on'),
    meaning:
      'Whether the boot listener has an ECDSA certificate beside the RSA one, for clients that take it: `on` or `off`.',
    parse: oneOf('on', 'off'),
  },
  bootCertFile: {
    ...named('boot-cert-file', 'file', null),
    meaning:
      'Your own certificate for the boot listener instead of ours: PEM, the leaf first, then the CAs between it and the root. RSA, for old firmware. Read again when it changes.',
    parse: parseFile,
  },
  bootKeyFile: {
    ...named('boot-key-file', 'file', null),
    meaning: 'Its key, PEM, not encrypted. Nobody but its owner and group may read it.',
    parse: parseFile,
  },
  bootEcdsaCertFile: {
    ...named('boot-ecdsa-cert-file', 'file', null),
    meaning: 'A second certificate of your own, ECDSA P-256, for clients that take it.',
    parse: parseFile,
  },
  bootEcdsaKeyFile: {
    ...named('boot-ecdsa-key-file', 'file', null),
    meaning: 'Its key.',
    parse: parseFile,
  },
  bootCaFile: {
    ...named('boot-ca-file', 'file', null),
    meaning:
      'The roots that lead to your own certificates, PEM: what agents and media are told to trust. Needed with `bootCertFile`.',
    parse: parseFile,
  },
  operatorCertFile: {
    ...named('operator-cert-file', 'file', null),
    meaning: 'Your own certificate for the operator listener, in the same form.',
    parse: parseFile,
  },
  operatorKeyFile: {
    ...named('operator-key-file', 'file', null),
    meaning: 'Its key.',
    parse: parseFile,
  },
  operatorCaFile: {
    ...named('operator-ca-file', 'file', null),
    meaning: 'The roots that lead to it, PEM: what `pawl --data` trusts then.',
    parse: parseFile,
  },
  oldBootListen: {
    ...named('old-boot-listen', 'HOST:PORT', null),
    meaning:
      'While the root is rotated: where machines are served that know the old root. `publicUrl` and `bootListen` are for the new one.',
    parse: parseListen,
  },
  oldPublicUrl: {
    ...named('old-public-url', 'URL', null),
    meaning: 'How those machines reach it: what `publicUrl` was before. Needed with `oldBootListen`.',
    parse: parsePublicUrl,
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
