import type { KubernetesLeave } from '../domain/leave.ts'
import { type ClusterFinding, examineAccount } from '../kubernetes/account.ts'
import { openKubernetes } from '../kubernetes/client.ts'
import { readKubeconfig } from '../kubernetes/kubeconfig.ts'

/** Looks at the cluster that nodes leave: it would let them be drained. Throws `invalid` for a kubeconfig that cannot be read. */
export function checkLeaveCluster(
  { kubeconfig, deleteNode }: Pick<KubernetesLeave, 'kubeconfig' | 'deleteNode'>,
  { now, timeoutMilliseconds }: { readonly now: Date; readonly timeoutMilliseconds: number },
): Promise<ClusterFinding[]> {
  const config = readKubeconfig(kubeconfig)
  const api = openKubernetes(config, { clock: () => now, answerMilliseconds: timeoutMilliseconds })
  const nodes = { resource: 'nodes' }
  return examineAccount(api, config, now, {
    needs: [
      { says: 'get nodes', access: { ...nodes, verb: 'get' } },
      { says: 'patch nodes', access: { ...nodes, verb: 'patch' } },
      ...(deleteNode === true ? [{ says: 'delete nodes', access: { ...nodes, verb: 'delete' } }] : []),
      { says: 'list pods', access: { resource: 'pods', verb: 'list' } },
      { says: 'evict pods', access: { resource: 'pods', subresource: 'eviction', verb: 'create' } },
    ],
    of: '',
    excess: {
      says: 'read the Secrets of every namespace, which no leaving needs',
      access: { resource: 'secrets', verb: 'get' },
    },
    role: 'deploy/kubernetes/leave-rbac.yaml',
    well: `${config.server.host} lets nodes be drained`,
  })
}
