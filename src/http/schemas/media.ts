import Type from '../../domain/schema.ts'

/** How boot media reach the server, where DHCP does not say. */
export const mediaQuery = Type.Object(
  {
    mac: Type.Optional(Type.String({ maxLength: 64, description: 'The NIC to boot from.' })),
    vlan: Type.Optional(Type.Integer({ minimum: 1, maximum: 4094, description: 'IEEE 802.1Q.' })),
    address: Type.Optional(
      Type.String({
        maxLength: 64,
        description: 'IPv4 or IPv6 with its prefix length; without it, DHCP or a router is asked.',
      }),
    ),
    gateway: Type.Optional(Type.String({ maxLength: 64 })),
    dns: Type.Optional(Type.String({ maxLength: 64, description: 'One server: iPXE asks no other.' })),
  },
  { additionalProperties: false },
)

/** What boot media are made of, all but the secret. */
export const mediaAnswer = Type.Object({
  node: Type.String(),
  siteScript: Type.String({
    description: 'autoexec.ipxe. It takes the secret from pawl/secret.ipxe beside it.',
  }),
  publicUrl: Type.String(),
  ca: Type.String({ description: 'PEM of the root that the media must trust.' }),
  secretIssued: Type.Boolean({ description: 'Whether the node has a secret, which a new one replaces.' }),
  secretWanted: Type.Boolean({ description: "Whether the node's profile asks for the secret as evidence." }),
  certificateWanted: Type.Boolean({ description: 'Whether it asks for a client certificate.' }),
})
