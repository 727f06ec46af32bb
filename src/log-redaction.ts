const censored = '***'
const maxDepth = 6
const maxItems = 100

/** Writes the value of a field with this name, instead of what is done with any other. */
export type FieldSerializers = Readonly<Record<string, (value: unknown) => unknown>>

/**
 * Names whose values are secret, compared without case, hyphens and underscores. A name that ends in one of these counts:
 * `stage2Token`, `x-api-key`. Names that only speak about secrets are kept: `tokenId`, `tokenKind`, `secretIssued`.
 */
const secretName =
  /(?:authorization|cookie|token|secret|password|passphrase|idempotencykey|apikey|privatekey|settingskey|capability|credentials?|handover)s?$/

/** One-letter query parameters of iPXE's requests: the handover token and the download capability. */
const secretParameters = new Set(['k', 'c', 'key'])

/**
 * A copy of `fields` with secrets left out at every depth; bounded, so that no object can fill the disk. Never throws:
 * whoever logs is often handling an error already.
 */
export function withoutSecrets(fields: object, serializers: FieldSerializers): Record<string, unknown> {
  const seen = new WeakSet<object>()
  try {
    return copyFields(fields, 0)
  } catch {
    return { unreadable: 'a field threw when it was read' }
  }

  function copyFields(object: object, depth: number): Record<string, unknown> {
    const entries = Object.entries(object).slice(0, maxItems)
    return Object.fromEntries(
      entries.map(([name, value]) => [name, isSecret(name) ? hidden(value) : copy(name, value, depth)]),
    )
  }

  function copy(name: string, value: unknown, depth: number): unknown {
    const serializer = Object.hasOwn(serializers, name) ? serializers[name] : undefined
    if (serializer !== undefined) return depth === 0 ? value : serializer(value) // pino itself does the first level
    if (value instanceof Error) return serializers.err?.(value)
    if (typeof value === 'bigint') return String(value)
    if (typeof value === 'function') return undefined // a toJSON would bring back what was left out here
    if (typeof value !== 'object' || value === null || value instanceof Date) return value
    if (ArrayBuffer.isView(value)) return `${value.byteLength} bytes`
    if (depth >= maxDepth || seen.has(value)) return '…'
    seen.add(value)
    if (Array.isArray(value)) return value.slice(0, maxItems).map((item) => copy('', item, depth + 1))
    return copyFields(value instanceof Map ? Object.fromEntries(value) : value, depth + 1)
  }
}

/** Names that were looked at: nearly all fields are those of a few lines of ours. */
const looked = new Map<string, boolean>()
const maxLooked = 1000

/** Whether a field of this name holds a secret. */
function isSecret(name: string): boolean {
  const known = looked.get(name)
  if (known !== undefined) return known
  const plain = name.toLowerCase().replace(/[-_]/g, '')
  const secret = secretParameters.has(plain) || secretName.test(plain)
  if (looked.size < maxLooked) looked.set(name, secret)
  return secret
}

/** That there was none is worth knowing, and no secret. */
function hidden(value: unknown): unknown {
  return value === null || value === undefined || typeof value === 'boolean' ? value : censored
}

/** Where a word can begin in JSON text: `\n`, `\u001b` and `%3D` are written with letters that are not part of it. */
const start = String.raw`(?:(?<![\w-])|(?<=\\(?:[bfnrt]|u[0-9a-f]{4}))|(?<=%[0-9A-Fa-f]{2}))`

/**
 * What secrets of ours look like in running text, what is put in their place, and what no such text is without: that is looked for
 * first, since the patterns themselves try every place of a line that has nothing of it.
 */
const patterns: readonly (readonly [RegExp, string, RegExp])[] = [
  // Before the tokens: a key in PEM is made of words that could look like one.
  [
    /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|(?="|$))/gs,
    '*** private key ***',
    /PRIVATE KEY/,
  ],
  [new RegExp(String.raw`${start}(bearer|basic)(\s+)[^\s"'\\,;]+`, 'gi'), `$1$2${censored}`, /bearer|basic/i],
  [/([?&;](?:k|c|key|token|secret|capability|password)=)[^&\s"'\\#;]+/gi, `$1${censored}`, /[?&;]/],
  // The user part of a URL: a database's password.
  [
    new RegExp(String.raw`${start}([a-z][a-z0-9+.-]{1,20}:\/\/[^\s:@/"'\\]*):[^\s@/"'\\]+@`, 'gi'),
    `$1:${censored}@`,
    /:\/\//,
  ],
  // A token of ours: 44 base64url characters, of which the first 12 are its name.
  [new RegExp(String.raw`${start}([\w-]{12})[\w-]{32}(?![\w-])`, 'g'), `$1${censored}`, /[\w-]{44}/],
  // A token cut short, where `tokens: epoxy` profiles have theirs: in the path.
  [
    /(\/v1\/boot\/[^/\s"\\]+\/)[^/\s"'\\*]+(?=\/(?:stage[23]|report|extension|nocloud|ignition)\b)/g,
    '$1…',
    /\/v1\/boot\//,
  ],
  // What joins a Kubernetes cluster: kubeadm's bootstrap token.
  [
    new RegExp(String.raw`${start}([a-z0-9]{6}\.)[a-z0-9]{16}(?![\w.-])`, 'g'),
    `$1${censored}`,
    /\.[a-z0-9]{16}/,
  ],
  // Of k3s and RKE2, where the hash of the CA is no secret; and Tailscale's keys.
  [new RegExp(String.raw`${start}(K10[0-9a-f]{64}::)[^\s"'\\,;]+`, 'g'), `$1${censored}`, /K10/],
  [new RegExp(String.raw`${start}(tskey-[a-z]+-)[\w-]+`, 'g'), `$1${censored}`, /tskey-/],
]

/** `line` without anything that looks like a secret. Works on JSON text: no pattern takes a quotation mark or a backslash. */
export function hideSecrets(line: string): string {
  return patterns.reduce(
    (text, [pattern, replacement, needs]) => (needs.test(text) ? text.replace(pattern, replacement) : text),
    line,
  )
}
