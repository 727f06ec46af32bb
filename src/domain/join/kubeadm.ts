import Type from 'typebox'
import type { JoinKind } from './kind.ts'

const settings = Type.Object(
  {
    /** The API server, HOST:PORT. */
    endpoint: Type.String({ pattern: '^[A-Za-z0-9.\\[\\]:-]{1,253}:[0-9]{1,5}$' }),
    /** A kubeadm bootstrap token (Kubernetes: "Authenticating with Bootstrap Tokens"). */
    token: Type.String({ pattern: '^[a-z0-9]{6}\\.[a-z0-9]{16}$' }),
    /** SHA-256 of the cluster CA's SPKI, as `kubeadm token create --print-join-command` prints it. */
    caCertHash: Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }),
  },
  { additionalProperties: false },
)

/** Joins a Kubernetes cluster as a worker, by a bootstrap token. */
export const kubeadm: JoinKind<typeof settings> = {
  settings,
  secretSettings: ['token'],
  template: 'join-kubeadm.sh',
  variables: (given) => given,
  credential: () => 'static',
}
