import Type, { type Static } from '../schema.ts'
import type { JoinFault, JoinKind } from './kind.ts'

/** What agents of k3s and RKE2 have in common: one program, one configuration file, two names. */

const text = String.raw`[A-Za-z0-9._,:/@%+=\[\]-]`

const settings = Type.Object(
  {
    /** A server, `https://HOST:PORT`: 6443 of k3s, 9345 of RKE2. */
    server: Type.String({ pattern: String.raw`^https://[A-Za-z0-9.:\[\]-]{1,253}$` }),
    /** An agent token with the hash of the cluster's CA: `K10HASH::…`. */
    token: Type.String({ pattern: '^[A-Za-z0-9._:+/=-]{1,512}$' }),
    /** `KEY=VALUE` of Kubernetes. */
    nodeLabels: Type.Optional(
      Type.Array(Type.String({ pattern: '^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,316}=[a-zA-Z0-9._-]{0,63}$' }), {
        maxItems: 64,
        uniqueItems: true,
      }),
    ),
    /** `KEY=VALUE:EFFECT`. */
    nodeTaints: Type.Optional(
      Type.Array(
        Type.String({
          pattern:
            '^[a-zA-Z0-9][a-zA-Z0-9._/-]{0,316}(=[a-zA-Z0-9._-]{0,63})?:(NoSchedule|PreferNoSchedule|NoExecute)$',
        }),
        { maxItems: 64, uniqueItems: true },
      ),
    ),
    /** Other fields of the agent's configuration file, each a list: `kubelet-arg`, `flannel-iface`. */
    agentArgs: Type.Optional(
      Type.Record(
        Type.String({ pattern: '^[a-z][a-z0-9-]{0,63}$' }),
        Type.Array(Type.String({ pattern: `^(?!-)${text}{1,256}$` }), { minItems: 1, maxItems: 32 }),
      ),
    ),
  },
  { additionalProperties: false },
)

type AgentSettings = Static<typeof settings>

const maxArgs = 32

/** Fields that have a setting, or that would give the token another way in. */
const ownFields = [
  'server',
  'token',
  'token-file',
  'agent-token',
  'agent-token-file',
  'node-name',
  'node-label',
]
const taken = new Set([...ownFields, 'node-taint', 'config', 'data-dir'])

/** What is wrong with an agent's settings that their schema cannot say. */
function fault({ token, agentArgs = {} }: AgentSettings): JoinFault | undefined {
  if (!/^K10[0-9a-f]{64}::./.test(token))
    return {
      at: 'token',
      message: 'has no hash of the CA (K10HASH::…): without it the agent believes whoever answers',
    }
  if (/^K10[0-9a-f]{64}::server:/.test(token))
    return { at: 'token', message: 'is a server token, which also lets in a server: give an agent token' }
  const names = Object.keys(agentArgs)
  if (names.length > maxArgs) return { at: 'agentArgs', message: `has ${names.length} fields, more than 32` }
  const own = names.find((name) => taken.has(name))
  return own === undefined
    ? undefined
    : { at: `agentArgs.${own}`, message: 'is not one to give here: it is set otherwise' }
}

/** What is written into the agent's configuration file beside its server and token. */
function fieldsOf({ nodeLabels = [], nodeTaints = [], agentArgs = {} }: AgentSettings): readonly object[] {
  const lists = Object.entries({ 'node-label': nodeLabels, 'node-taint': nodeTaints, ...agentArgs })
  return lists.filter(([, values]) => values.length > 0).map(([name, values]) => ({ name, values }))
}

/** Joins a cluster as an agent of this distribution. */
function agentOf(distribution: 'k3s' | 'rke2'): JoinKind<typeof settings> {
  return {
    settings,
    secretSettings: ['token'],
    template: 'join-agent.sh',
    variables: (given) => ({
      distribution,
      server: given.server,
      token: given.token,
      fields: fieldsOf(given),
    }),
    credential: () => 'static',
    fault,
  }
}

export const k3s = agentOf('k3s')
export const rke2 = agentOf('rke2')
