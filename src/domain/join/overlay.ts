import { PawlError } from '../../errors.ts'
import Type, { type Static } from '../schema.ts'
import type { JoinFault, JoinPlace } from './kind.ts'

/**
 * Networks that a node joins before it joins its cluster, beside the settings of any kind. The key of WireGuard is made on the node and
 * stays there; the others are let in by what the profile holds.
 */

const strict = { additionalProperties: false } as const
const prefix = Type.String({ pattern: '^[0-9A-Fa-f.:]{2,45}/[0-9]{1,3}$' })
const endpoint = Type.String({ pattern: String.raw`^[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]{0,252}:[0-9]{1,5}$` })
const pem = (): ReturnType<typeof Type.String> => Type.String({ minLength: 1, maxLength: 16_384 })

const wireguard = Type.Object(
  {
    kind: Type.Literal('wireguard'),
    /** The interface; without it `wg0`. */
    interface: Type.Optional(Type.String({ pattern: '^[a-z][a-z0-9-]{0,14}$' })),
    /** The node's own addresses, for a profile of one node. */
    addresses: Type.Optional(Type.Array(prefix, { minItems: 1, maxItems: 8, uniqueItems: true })),
    /** Instead: the label of the node that holds its IPv4 address. */
    addressLabel: Type.Optional(Type.String({ pattern: '^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$' })),
    listenPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
    mtu: Type.Optional(Type.Integer({ minimum: 1280, maximum: 9000 })),
    peers: Type.Array(
      Type.Object(
        {
          publicKey: Type.String({ pattern: '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$' }),
          endpoint: Type.Optional(endpoint),
          allowedIps: Type.Array(prefix, { minItems: 1, maxItems: 64, uniqueItems: true }),
          keepaliveSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
        },
        strict,
      ),
      { minItems: 1, maxItems: 64 },
    ),
  },
  strict,
)

const tailscale = Type.Object(
  {
    kind: Type.Literal('tailscale'),
    /** An auth key, of Tailscale or Headscale. */
    authKey: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_?=&-]{7,255}$' }),
    /** Another coordination server. */
    loginServer: Type.Optional(
      Type.String({ pattern: String.raw`^https://[A-Za-z0-9][A-Za-z0-9.:\[\]-]{0,252}$` }),
    ),
    tags: Type.Optional(
      Type.Array(Type.String({ pattern: '^tag:[a-z][a-z0-9-]{0,49}$' }), { maxItems: 16, uniqueItems: true }),
    ),
  },
  strict,
)

const zerotier = Type.Object(
  {
    kind: Type.Literal('zerotier'),
    networkId: Type.String({ pattern: '^[0-9a-f]{16}$' }),
  },
  strict,
)

const nebula = Type.Object(
  {
    kind: Type.Literal('nebula'),
    /** PEM of the network's CA. */
    ca: pem(),
    /** PEM of the certificate, and of its key: one node's. */
    certificate: pem(),
    key: pem(),
    lighthouses: Type.Array(
      Type.Object(
        {
          /** Within the network. */
          address: Type.String({ pattern: '^[0-9A-Fa-f.:]{2,45}$' }),
          endpoints: Type.Array(endpoint, { minItems: 1, maxItems: 8, uniqueItems: true }),
        },
        strict,
      ),
      { minItems: 1, maxItems: 16 },
    ),
  },
  strict,
)

export const overlaySchema = Type.Union([wireguard, tailscale, zerotier, nebula])

/** A network that a node joins before it joins its cluster. */
export type Overlay = Static<typeof overlaySchema>

interface OverlayKind {
  readonly secretSettings: readonly string[]
  readonly template: `join-overlay-${string}.sh`
}

export const overlayKinds: Readonly<Record<Overlay['kind'], OverlayKind>> = {
  wireguard: { secretSettings: [], template: 'join-overlay-wireguard.sh' },
  tailscale: { secretSettings: ['authKey'], template: 'join-overlay-tailscale.sh' },
  zerotier: { secretSettings: [], template: 'join-overlay-zerotier.sh' },
  nebula: { secretSettings: ['key'], template: 'join-overlay-nebula.sh' },
}

/** What is wrong with an overlay that its schema cannot say. */
export function overlayFault(overlay: Overlay): JoinFault | undefined {
  if (
    overlay.kind === 'wireguard' &&
    (overlay.addresses === undefined) === (overlay.addressLabel === undefined)
  )
    return { at: 'addresses', message: 'or addressLabel is needed: one of the two' }
  if (overlay.kind !== 'nebula') return undefined
  const wanted = { ca: 'NEBULA CERTIFICATE', certificate: 'NEBULA CERTIFICATE', key: 'PRIVATE KEY' } as const
  for (const [at, what] of Object.entries(wanted)) {
    const text = overlay[at as keyof typeof wanted]
    if (!new RegExp(`^-----BEGIN [A-Z0-9 ]*${what}( V2)?-----\\n[A-Za-z0-9+/=\\n]+-----END `).test(text))
      return { at, message: `is not PEM: it begins with "-----BEGIN … ${what}-----"` }
  }
  return undefined
}

/** What an overlay's template is given; throws `render-failed` where this node lacks what it needs. */
export function overlayVariables(overlay: Overlay, { labels }: JoinPlace): Record<string, unknown> {
  if (overlay.kind === 'wireguard') {
    const { interface: name = 'wg0', addresses, addressLabel = '', listenPort, mtu, peers } = overlay
    return {
      interface: name,
      addresses: addresses ?? [labels === undefined ? '192.0.2.1' : addressIn(labels, addressLabel)],
      listenPort: wordOf(listenPort),
      mtu: wordOf(mtu),
      peers: peers.map(({ publicKey, endpoint = '', allowedIps, keepaliveSeconds }) => ({
        ...{ publicKey, endpoint, allowedIps },
        keepalive: wordOf(keepaliveSeconds),
      })),
    }
  }
  if (overlay.kind === 'tailscale') {
    const { authKey, loginServer = '', tags = [] } = overlay
    return { authKey: base64(authKey), loginServer, tags }
  }
  if (overlay.kind === 'zerotier') return { networkId: overlay.networkId }
  const { ca, certificate, key, lighthouses } = overlay
  return { ca: base64(ca), certificate: base64(certificate), key: base64(key), lighthouses }
}

const ipv4 = /^((25[0-5]|2[0-4]\d|1?\d?\d)(\.(?=\d)|$)){4}$/

function addressIn(labels: Readonly<Record<string, string>>, label: string): string {
  const value = labels[label]
  if (value !== undefined && ipv4.test(value)) return value
  const what = value === undefined ? 'it has no such label' : 'its value is no IPv4 address'
  throw new PawlError(
    'render-failed',
    `join.overlay: the node's address is in its label "${label}", and ${what}`,
  )
}

function wordOf(value: number | undefined): string {
  return value === undefined ? '' : String(value)
}

function base64(text: string): string {
  return Buffer.from(text.endsWith('\n') ? text : `${text}\n`).toString('base64')
}
