import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import type { Kubernetes } from '../../src/kubernetes/client.ts'
import type { KubernetesCluster } from './kubernetes-cluster.ts'

const collections: Readonly<Record<string, string>> = {
  Namespace: '/api/v1/namespaces',
  ServiceAccount: '/api/v1/namespaces/NAMESPACE/serviceaccounts',
  Secret: '/api/v1/namespaces/NAMESPACE/secrets',
  Role: '/apis/rbac.authorization.k8s.io/v1/namespaces/NAMESPACE/roles',
  RoleBinding: '/apis/rbac.authorization.k8s.io/v1/namespaces/NAMESPACE/rolebindings',
  ClusterRole: '/apis/rbac.authorization.k8s.io/v1/clusterroles',
  ClusterRoleBinding: '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings',
}

/** Makes what a file of deploy/kubernetes says, as `kubectl apply -f` does, and gives the path of its service account. */
export async function applyFile(admin: Kubernetes, name: string): Promise<string> {
  let account = ''
  const file = join(import.meta.dirname, '../../deploy/kubernetes', name)
  for (const document of parseAllDocuments(readFileSync(file, 'utf8'))) {
    const object = document.toJS() as { kind: string; metadata: { name: string; namespace?: string } } | null
    if (object === null) continue
    const path = collections[object.kind]?.replace('NAMESPACE', object.metadata.namespace ?? 'default')
    if (path === undefined) throw new Error(`${name} has an object of kind ${object.kind}`)
    await admin.request('POST', path, object)
    if (object.kind === 'ServiceAccount') account = `${path}/${object.metadata.name}`
  }
  return account
}

/** A kubeconfig of a service account, with a token that is good for thirty days. */
export async function kubeconfigOfAccount(cluster: KubernetesCluster, account: string): Promise<string> {
  const { status } = await cluster.admin.request('POST', `${account}/token`, {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec: { expirationSeconds: 30 * 86_400 },
  })
  return cluster.kubeconfigFor({ token: (status as { token: string }).token })
}
