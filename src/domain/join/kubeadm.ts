import Type from '../schema.ts'
import type { JoinKind } from './kind.ts'

/** The largest kubeconfig that is read; a real one with certificates has about 10 KiB. */
const maxKubeconfigLength = 65_536

const settings = Type.Object(
  {
    /** The API server, HOST:PORT. */
    endpoint: Type.String({ pattern: '^[A-Za-z0-9.\\[\\]:-]{1,253}:[0-9]{1,5}$' }),
    /** A kubeadm bootstrap token (Kubernetes: "Authenticating with Bootstrap Tokens"), the same for every node. */
    token: Type.Optional(Type.String({ pattern: '^[a-z0-9]{6}\\.[a-z0-9]{16}$' })),
    /** Instead: an account that may make and delete bootstrap tokens. Each boot gets one of its own. */
    kubeconfig: Type.Optional(Type.String({ minLength: 1, maxLength: maxKubeconfigLength })),
    /**
     * SHA-256 of the cluster CA's SPKI, as `kubeadm token create --print-join-command` prints it. With a kubeconfig it is that of
     * the CA in it.
     */
    caCertHash: Type.Optional(Type.String({ pattern: '^sha256:[0-9a-f]{64}$' })),
    /** The group of who comes with a token of a boot; without it kubeadm's own. */
    group: Type.Optional(Type.String({ pattern: '^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$' })),
    /** How long a token of a boot is good for. */
    ttlSeconds: Type.Optional(Type.Integer({ minimum: 60, maximum: 3600 })),
  },
  { additionalProperties: false },
)

/** Joins a Kubernetes cluster as a worker, by a bootstrap token: one for all, or one that is made for each boot. */
export const kubeadm: JoinKind<typeof settings> = {
  settings,
  secretSettings: ['token', 'kubeconfig'],
  template: 'join-kubeadm.sh',
  // With a kubeconfig, the token of this boot was put beside it by then (`joining/kubeadm.ts`).
  variables: ({ endpoint, token = '', caCertHash = '' }) => ({ endpoint, token, caCertHash }),
  credential: ({ kubeconfig }) => (kubeconfig === undefined ? 'static' : 'brokered'),
  fault({ token, kubeconfig, caCertHash, group, ttlSeconds }) {
    if (token !== undefined && kubeconfig !== undefined)
      return { at: 'kubeconfig', message: 'stands beside a token: give one of the two' }
    if (kubeconfig !== undefined) return undefined
    if (token === undefined)
      return { at: 'token', message: 'is missing: give a token, or a kubeconfig to make one for each boot' }
    if (caCertHash === undefined) return { at: 'caCertHash', message: 'is missing beside the token' }
    if (group !== undefined) return { at: 'group', message: 'is for tokens of a boot: it needs a kubeconfig' }
    if (ttlSeconds !== undefined)
      return { at: 'ttlSeconds', message: 'is for tokens of a boot: it needs a kubeconfig' }
    return undefined
  },
}
