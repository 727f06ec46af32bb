import { cleanConsole } from '../domain/console-text.ts'
import { oneLine } from '../domain/span.ts'
import { codeOf, isUntrusted, reasonOf } from '../outgoing/answer.ts'

/**
 * What can come of asking a Kubernetes API, told apart as far as it decides what to do next. Messages are shown to operators:
 * none holds a credential, whatever the API answered.
 */

/** Each way to fail, and whether the same request may succeed later without anybody changing anything. */
export const kubernetesFaults = {
  unreachable: { passes: true },
  timeout: { passes: true },
  'wrong-ca': { passes: false },
  'wrong-name': { passes: false },
  'expired-certificate': { passes: false },
  unauthorized: { passes: false },
  forbidden: { passes: false },
  'not-found': { passes: false },
  conflict: { passes: false },
  'too-many-requests': { passes: true },
  /** Another 4xx: the request is wrong to this API. */
  refused: { passes: false },
  /** A 5xx. */
  failing: { passes: true },
  /** What answers is no Kubernetes API, or answers more than is read. */
  'bad-answer': { passes: false },
} as const

/** One way to fail. */
export type KubernetesFault = keyof typeof kubernetesFaults

/** Why a request to a Kubernetes API came to nothing. */
export class KubernetesError extends Error {
  override readonly name = 'KubernetesError'
  readonly fault: KubernetesFault
  /** Whether the same request may succeed later without anybody changing anything. */
  readonly passes: boolean
  /** The API's status, where it answered. */
  readonly status: number | undefined
  /** What the API asked for with 429 or 503. */
  readonly retryAfterSeconds: number | undefined

  constructor(
    fault: KubernetesFault,
    message: string,
    answer: { readonly status?: number; readonly retryAfterSeconds?: number | undefined } = {},
  ) {
    super(message)
    this.fault = fault
    this.passes = kubernetesFaults[fault].passes
    this.status = answer.status
    this.retryAfterSeconds = answer.retryAfterSeconds
  }
}

/** Whether `error` is a Kubernetes API's, and of that fault when one is given. */
export function isKubernetesError(error: unknown, fault?: KubernetesFault): error is KubernetesError {
  return error instanceof KubernetesError && (fault === undefined || error.fault === fault)
}

const byStatus: Readonly<Record<number, KubernetesFault>> = {
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not-found',
  408: 'timeout',
  409: 'conflict',
  429: 'too-many-requests',
}

const words: Readonly<Partial<Record<KubernetesFault, string>>> = {
  unauthorized: 'the Kubernetes API does not know the credential of the kubeconfig (401)',
  forbidden: 'the Kubernetes API forbids this to the account of the kubeconfig (403)',
}

/** The error of an answer that is no success. `secrets` are what was sent: an answer that repeats one is not quoted. */
export function errorOfStatus(
  status: number,
  answer: { readonly body: string; readonly retryAfterSeconds: number | undefined },
  secrets: readonly string[],
): KubernetesError {
  const fault = byStatus[status] ?? (status >= 500 ? 'failing' : status >= 400 ? 'refused' : 'bad-answer')
  const said = saidBy(answer.body, secrets)
  const begin =
    words[fault] ??
    (fault === 'bad-answer'
      ? `the Kubernetes API answered ${status}, which is not followed`
      : `the Kubernetes API answered ${status}`)
  const message = said === undefined ? begin : `${begin}: ${said}`
  return new KubernetesError(fault, message, { status, retryAfterSeconds: answer.retryAfterSeconds })
}

/** The `message` of a Status (Kubernetes API conventions, "Response status kind"), as one short line. */
function saidBy(body: string, secrets: readonly string[]): string | undefined {
  let message: unknown
  try {
    message = (JSON.parse(body) as { message?: unknown } | null)?.message
  } catch {
    return undefined
  }
  if (typeof message !== 'string' || secrets.some((secret) => message.includes(secret))) return undefined
  const line = oneLine(cleanConsole(Buffer.from(message.slice(0, 2000))), 200).trim()
  return line === '' ? undefined : line
}

/** The error of a request that got no answer. */
export function errorOfExchange(error: unknown): KubernetesError {
  const why = `no answer from the Kubernetes API: ${reasonOf(error, 'certificate-authority-data of the kubeconfig')}`
  if (isUntrusted(error)) return new KubernetesError('wrong-ca', why)
  const code = codeOf(error)
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return new KubernetesError('wrong-name', why)
  if (code === 'CERT_HAS_EXPIRED') return new KubernetesError('expired-certificate', why)
  return new KubernetesError(code === 'ETIMEDOUT' || code === 'ETIMEOUT' ? 'timeout' : 'unreachable', why)
}
