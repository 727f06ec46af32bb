import { createHmac } from 'node:crypto'
import { stringify } from 'yaml'
import { clusterInfoPath, type KubernetesObject, type KubernetesStandIn } from './kubernetes-api.ts'

/**
 * Opens the stand-in's cluster-info, which says that the API is at `authority` (HOST:PORT), signed with each bootstrap token that stands
 * there, as the bootstrap signer of the controller manager does it. `between` is what somebody between makes of it.
 */
export function openClusterInfo(
  api: KubernetesStandIn,
  authority: string,
  between: (kubeconfig: string) => string = (kubeconfig) => kubeconfig,
): void {
  const kubeconfig = stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: '',
        cluster: {
          'certificate-authority-data': Buffer.from(api.ca).toString('base64'),
          server: `https://${authority}`,
        },
      },
    ],
  })
  api.answer = ({ method, path, user }) => {
    if (method !== 'GET' || path !== clusterInfoPath || user !== 'system:anonymous') return undefined
    const metadata = { namespace: 'kube-public', name: 'cluster-info' }
    const data = { kubeconfig: between(kubeconfig), ...signatures(api, kubeconfig) }
    return { status: 200, body: { apiVersion: 'v1', kind: 'ConfigMap', metadata, data } }
  }
}

function signatures(api: KubernetesStandIn, kubeconfig: string): Record<string, string> {
  const tokens = [...api.objects.values()].filter(({ type }) => type === 'bootstrap.kubernetes.io/token')
  return Object.fromEntries(
    tokens.flatMap((token) => {
      const id = secretValue(token, 'token-id')
      if (secretValue(token, 'usage-bootstrap-signing') !== 'true') return []
      return [[`jws-kubeconfig-${id}`, detached(kubeconfig, id, secretValue(token, 'token-secret'))]]
    }),
  )
}

/** A value of a Secret. */
export function secretValue(secret: KubernetesObject, name: string): string {
  const packed = (secret.data as Readonly<Record<string, string>> | undefined)?.[name]
  return Buffer.from(packed ?? '', 'base64').toString('utf8')
}

/** A JWS without its payload (RFC 7515, appendix F). */
function detached(payload: string, kid: string, key: string): string {
  const packed = (text: string): string => Buffer.from(text).toString('base64url')
  const header = packed(JSON.stringify({ alg: 'HS256', kid }))
  const mac = createHmac('sha256', key)
    .update(`${header}.${packed(payload)}`)
    .digest('base64url')
  return `${header}..${mac}`
}
