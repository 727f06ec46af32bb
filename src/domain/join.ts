import Type, { type Static } from 'typebox'

/**
 * The ways a node joins its cluster, as data: the settings each takes, and which of them are secret (sealed at rest,
 * shown as `***`) or hand out a credential (so that an address alone may not open them).
 */
const none = Type.Object(
  {
    kind: Type.Literal('none'),
    settings: Type.Optional(
      Type.Record(Type.String({ pattern: '^[a-z][a-zA-Z0-9]{0,31}$' }), Type.String({ maxLength: 256 })),
    ),
  },
  { additionalProperties: false },
)

const kubeadm = Type.Object(
  {
    kind: Type.Literal('kubeadm'),
    settings: Type.Object(
      {
        /** The API server, HOST:PORT. */
        endpoint: Type.String({ pattern: '^[A-Za-z0-9.\\[\\]:-]{1,253}:[0-9]{1,5}$' }),
        /** A kubeadm bootstrap token (Kubernetes: "Authenticating with Bootstrap Tokens"). */
        token: Type.String({ pattern: '^[a-z0-9]{6}\\.[a-z0-9]{16}$' }),
        /** SHA-256 of the cluster CA's SPKI, as `kubeadm token create --print-join-command` prints it. */
        caCertHash: Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }),
      },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)

export const joinSchema = Type.Union([none, kubeadm])

/** How a node joins, with its settings. */
export type Join = Static<typeof joinSchema>

interface JoinKind {
  readonly template: 'join-none.sh' | 'join-kubeadm.sh'
  readonly secretSettings: readonly string[]
}

export const joinKinds: Readonly<Record<Join['kind'], JoinKind>> = {
  none: { template: 'join-none.sh', secretSettings: [] },
  kubeadm: { template: 'join-kubeadm.sh', secretSettings: ['token'] },
}

/** Whether this join hands the node a credential. */
export function handsOutCredential(join: Join): boolean {
  return joinKinds[join.kind].secretSettings.length > 0
}

/** The same join with each secret setting passed through `change`. */
export function mapSecretSettings(join: Join, change: (value: string, setting: string) => string): Join {
  const secret = joinKinds[join.kind].secretSettings
  const settings = Object.fromEntries(
    Object.entries(join.settings ?? {}).map(([key, value]) => [
      key,
      secret.includes(key) ? change(value, key) : value,
    ]),
  )
  return { ...join, settings } as Join // the same keys, each still a string
}
