import type { Kubernetes } from './client.ts'
import { isKubernetesError } from './faults.ts'
import type { Kubeconfig } from './kubeconfig.ts'

/** How a cluster is, asked by the kubeconfig of a profile. */
export interface ClusterFinding {
  readonly level: 'ok' | 'warn' | 'fail'
  readonly found: string
  readonly advice?: string
}

/** What may be done: `resourceAttributes` of a SelfSubjectAccessReview. */
export interface Access {
  readonly verb: string
  readonly resource: string
  readonly subresource?: string
  readonly namespace?: string
}

/** What an account is for. */
export interface AccountUse {
  /** What it must be able to do, with the words for it. */
  readonly needs: readonly { readonly says: string; readonly access: Access }[]
  /** The end of the sentence about needs. */
  readonly of: string
  /** What it must not need. */
  readonly excess: { readonly says: string; readonly access: Access }
  /** The file that has its role. */
  readonly role: string
  /** What is said where all is well. */
  readonly well: string
}

/** A kubeconfig that ends sooner than this is told of. */
const soonDays = 14

/**
 * Looks at a cluster by a kubeconfig: it answers, is of the CA that is named there, knows the account, lets it do what it is for, and nothing that it
 * has ends soon. Nothing is made or read.
 */
export async function examineAccount(
  api: Kubernetes,
  { ends }: Pick<Kubeconfig, 'ends'>,
  now: Date,
  { needs, of, excess, role, well }: AccountUse,
): Promise<ClusterFinding[]> {
  const findings: ClusterFinding[] = []
  try {
    const able = await Promise.all([...needs, excess].map(({ access }) => may(api, access)))
    const lacking = needs.filter((_, at) => able[at] === false).map(({ says }) => says)
    if (lacking.length > 0)
      findings.push({
        level: 'fail',
        found: `its account may not ${listed(lacking)}${of}`,
        advice: `bind it to the role of ${role}`,
      })
    if (able.at(-1) === true)
      findings.push({
        level: 'warn',
        found: `its account may ${excess.says}`,
        advice: `use an account that has the role of ${role} alone`,
      })
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
  return findings.length > 0 ? findings : [{ level: 'ok', found: well }]
}

/** Asks whether the account may: every account may ask that of itself. */
async function may(api: Kubernetes, access: Access): Promise<boolean> {
  const { status } = await api.request('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes: access },
  })
  return (status as { allowed?: unknown } | undefined)?.allowed === true
}

function listed(words: readonly string[]): string {
  const last = words.at(-1) ?? ''
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} and ${last}`
}

const advices: Readonly<Partial<Record<string, string>>> = {
  unreachable: 'look whether the API server runs, and whether this machine may reach it',
  timeout: 'look whether the API server runs, and whether this machine may reach it',
  'wrong-ca': 'take the CA of the cluster into the kubeconfig, and apply the profile again',
  'wrong-name': 'name the server as its certificate does, or set tls-server-name in the kubeconfig',
  'expired-certificate': 'make a new kubeconfig and apply the profile again (docs/joining.md)',
  unauthorized: 'make a new kubeconfig and apply the profile again (docs/joining.md)',
}
