import { examineAccount } from '../kubernetes/account.ts'
import type { Kubernetes } from '../kubernetes/client.ts'
import type { Kubeconfig } from '../kubernetes/kubeconfig.ts'
import type { BrokerFinding } from './broker.ts'

/** Looks at a cluster by the kubeconfig of a profile's join: it would make and delete bootstrap tokens, and no more. */
export function checkCluster(
  api: Kubernetes,
  { server, ends }: Pick<Kubeconfig, 'server' | 'ends'>,
  now: Date,
): Promise<BrokerFinding[]> {
  const secrets = { namespace: 'kube-system', resource: 'secrets' }
  return examineAccount(api, { ends }, now, {
    needs: ['create', 'delete'].map((verb) => ({ says: verb, access: { ...secrets, verb } })),
    of: ' Secrets in kube-system',
    excess: {
      says: 'read the Secrets of kube-system, which no join needs',
      access: { ...secrets, verb: 'get' },
    },
    role: 'deploy/kubernetes/join-role.yaml',
    well: `${server.host} makes and deletes bootstrap tokens for it`,
  })
}
