/** Credentials that are made for one boot, at a cluster that may not answer. */

/** Why a cluster did not make or remove one, in words for operators. The words of each answer go beside it. */
export const backendFaults = {
  unreachable: 'the API of the cluster cannot be reached',
  timeout: 'the API of the cluster does not answer in time',
  'wrong-ca': 'the API of the cluster is not of the CA that the kubeconfig names',
  'wrong-name': "the certificate of the cluster's API is for another name",
  'expired-certificate': 'a certificate or token of the kubeconfig has ended, or that of the API',
  unauthorized: 'the cluster does not know the account of the kubeconfig',
  forbidden: 'the account of the kubeconfig may not do this: see deploy/kubernetes/join-role.yaml',
  refused: 'the cluster refuses the request',
  failing: 'the API of the cluster fails (5xx), or has too much to do',
  'bad-answer': 'what answers is not a Kubernetes API',
  settings: 'the settings of the profile cannot be read',
} as const

/** One way for a cluster not to do it. */
export type BackendFault = keyof typeof backendFaults

/** What the cluster is asked for. */
export type BackendCall = 'make' | 'remove'
export const backendCalls: readonly BackendCall[] = ['make', 'remove']

/** Takes how each call ended; behind what is durable of it. */
export interface JoinMeter {
  called(call: BackendCall, outcome: 'done' | BackendFault, seconds: number): void
  /** A join was told to come again because as many calls as may were under way. */
  busy(): void
}
