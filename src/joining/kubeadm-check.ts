import type { Kubernetes } from '../kubernetes/client.ts'
import { isKubernetesError } from '../kubernetes/faults.ts'
import type { Kubeconfig } from '../kubernetes/kubeconfig.ts'
import type { BrokerFinding } from './broker.ts'

/** A kubeconfig that ends sooner than this is told of. */
const soonDays = 14

/**
 * Looks at a cluster by the kubeconfig of a profile: it answers, is of the CA that is named there, knows the account, lets it
 * make and delete Secrets in kube-system, and nothing that it has ends soon. Nothing is made or read.
 */
export async function checkCluster(
  api: Kubernetes,
  { server, ends }: Pick<Kubeconfig, 'server' | 'ends'>,
  now: Date,
): Promise<BrokerFinding[]> {
  const findings: BrokerFinding[] = []
  const lacking: string[] = []
  try {
    for (const verb of ['create', 'delete']) if (!(await may(api, verb))) lacking.push(verb)
    if (lacking.length > 0) {
      findings.push({
        level: 'fail',
        found: `its account may not ${lacking.join(' and ')} Secrets in kube-system`,
        advice: 'bind it to the role of deploy/kubernetes/join-role.yaml',
      })
    }
    if (await may(api, 'get')) {
      findings.push({
        level: 'warn',
        found: 'its account may read the Secrets of kube-system, which no join needs',
        advice: 'use an account that has the role of deploy/kubernetes/join-role.yaml alone',
      })
    }
  } catch (error) {
    if (!isKubernetesError(error)) throw error
    return [{ level: 'fail', found: error.message, advice: advices[error.fault] ?? 'look at the cluster' }]
  }
  for (const { part, at } of ends) {
    const days = Math.floor((at.getTime() - now.getTime()) / 86_400_000)
    if (days < soonDays)
      findings.push({
        level: 'warn',
        found: `the ${part} of its kubeconfig ends in ${days} days`,
        advice: 'make a new one and apply the profile again (docs/joining.md)',
      })
  }
  if (findings.length > 0) return findings
  return [{ level: 'ok', found: `${server.host} makes and deletes bootstrap tokens for it` }]
}

/** Asks whether the account may: every account may ask that of itself. */
async function may(api: Kubernetes, verb: string): Promise<boolean> {
  const { status } = await api.request('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes: { namespace: 'kube-system', verb, resource: 'secrets' } },
  })
  return (status as { allowed?: unknown } | undefined)?.allowed === true
}

const advices: Readonly<Partial<Record<string, string>>> = {
  unreachable: 'look whether the API server runs, and whether this machine may reach it',
  timeout: 'look whether the API server runs, and whether this machine may reach it',
  'wrong-ca': 'take the CA of the cluster into the kubeconfig, and apply the profile again',
  'wrong-name': 'name the server as its certificate does, or set tls-server-name in the kubeconfig',
  'expired-certificate': 'make a new kubeconfig and apply the profile again (docs/joining.md)',
  unauthorized: 'make a new kubeconfig and apply the profile again (docs/joining.md)',
}
