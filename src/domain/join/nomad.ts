import Type from '../schema.ts'
import type { JoinKind } from './kind.ts'

const word = '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'

const settings = Type.Object(
  {
    /** The servers' RPC addresses, `HOST[:4647]`. */
    servers: Type.Array(Type.String({ pattern: String.raw`^[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]{0,252}$` }), {
      minItems: 1,
      maxItems: 16,
      uniqueItems: true,
    }),
    datacenter: Type.Optional(Type.String({ pattern: word })),
    region: Type.Optional(Type.String({ pattern: word })),
    nodePool: Type.Optional(Type.String({ pattern: word })),
    /** Where the client keeps its state. */
    dataDir: Type.Optional(Type.String({ pattern: '^(/[A-Za-z0-9][A-Za-z0-9._-]{0,63}){1,8}$' })),
    /** What `nomad node intro create` prints. */
    introToken: Type.Optional(
      Type.String({ pattern: String.raw`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`, maxLength: 4096 }),
    ),
  },
  { additionalProperties: false },
)

/** Runs a Nomad client. */
export const nomad: JoinKind<typeof settings> = {
  settings,
  secretSettings: ['introToken'],
  template: 'join-nomad.sh',
  variables: ({ servers, datacenter = 'dc1', region = '', nodePool = '', introToken = '', dataDir }) => ({
    ...{ servers, datacenter, region, nodePool, introToken },
    dataDir: dataDir ?? '/opt/nomad/data',
  }),
  credential: ({ introToken }) => (introToken === undefined ? 'none' : 'static'),
}
