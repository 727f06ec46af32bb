import { createHash, X509Certificate } from 'node:crypto'
import type { Join } from '../domain/join.ts'
import type { BackendFault } from '../domain/join-credential.ts'
import { isPawlError } from '../errors.ts'
import { type Kubernetes, openKubernetes } from '../kubernetes/client.ts'
import { isKubernetesError, type KubernetesFault } from '../kubernetes/faults.ts'
import { endedParts, type Kubeconfig, readKubeconfig } from '../kubernetes/kubeconfig.ts'
import { type Broker, BrokerFault, type Credential } from './broker.ts'
import { checkCluster } from './kubeadm-check.ts'

/**
 * Bootstrap tokens of Kubernetes ("Authenticating with Bootstrap Tokens"): a Secret in kube-system, whose name has the token's
 * public half. The account needs to create and delete Secrets there and no more: none is read (deploy/kubernetes/join-role.yaml).
 */
export type KubeadmSettings = Extract<Join, { kind: 'kubeadm' }>['settings']

/** What calls take. */
export interface KubeadmOptions {
  readonly clock: () => Date
  readonly timeoutMilliseconds: number
}

const secrets = '/api/v1/namespaces/kube-system/secrets'
const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789'
const usualGroup = 'system:bootstrappers:kubeadm:default-node-token'

/** Makes bootstrap tokens. */
export function kubeadmBroker({ clock, timeoutMilliseconds }: KubeadmOptions): Broker<KubeadmSettings> {
  const open = (settings: KubeadmSettings): Kubernetes =>
    openKubernetes(configOf(settings), {
      clock,
      connectMilliseconds: Math.min(5000, timeoutMilliseconds),
      answerMilliseconds: timeoutMilliseconds,
    })

  return {
    makeUp: (randomBytes) => ({ handle: letters(6, randomBytes), secret: letters(16, randomBytes) }),

    async make(credential, settings) {
      const api = open(settings)
      const object = secretOf(credential, settings.group ?? usualGroup)
      const found = await told(async () => {
        await api.request('POST', secrets, object)
        return 'made' as const
      }, 'conflict')
      if (found === 'made') return 'made'
      if (!credential.again) return 'taken'
      // A call of before made it, and its end was not seen: this one is of the same name, and good for as long as is said now.
      await removeAsSeen(api, `${secrets}/${nameOf(credential.handle)}`)
      await told(() => api.request('POST', secrets, object))
      return 'made'
    },

    async remove(handle, settings) {
      const gone = await told(async () => {
        await open(settings).request('DELETE', `${secrets}/${nameOf(handle)}`)
        return true
      }, 'not-found')
      return gone === true
    },

    backend: (settings) => apiOf(configOf(settings)),

    lifetimeSeconds: ({ ttlSeconds }) => ttlSeconds,

    variables: (settings, { handle, secret }) => ({
      token: `${handle}.${secret}`,
      caCertHash: settings.caCertHash ?? hashesOf(configOf(settings))[0],
    }),

    faults({ kubeconfig = '', caCertHash }, now) {
      try {
        const config = readKubeconfig(kubeconfig)
        const known = hashesOf(config)
        const isOther = caCertHash !== undefined && !known.includes(caCertHash)
        const other = `is not that of the CA in the kubeconfig, ${known.join(' or ')}`
        return [
          ...endedParts(config, now).map(({ part, at }) => ({
            at: 'kubeconfig',
            message: `has a ${part} that ended at ${at.toISOString()}`,
          })),
          ...(isOther ? [{ at: 'caCertHash', message: other }] : []),
        ]
      } catch (error) {
        if (!isPawlError(error, 'invalid')) throw error
        return [{ at: 'kubeconfig', message: error.message.replace(/^kubeconfig: /, '') }]
      }
    },

    async check(settings, now) {
      try {
        return await checkCluster(open(settings), configOf(settings), now)
      } catch (error) {
        const fault = error instanceof BrokerFault ? error : faultOf(error)
        if (fault === undefined) throw error
        return [{ level: 'fail', found: fault.message, advice: 'mend it and apply the profile again' }]
      }
    },
  }
}

/**
 * Removes the object that is there now, by its UID: a removal that is given up and carried out later must not take what was made since under the
 * same name. The account may read no Secret; what a removal would remove, a removal on trial says (`dryRun`, Kubernetes 1.18).
 */
async function removeAsSeen(api: Kubernetes, path: string): Promise<void> {
  const found = await told(() => api.request('DELETE', path, deleteOptions({ dryRun: ['All'] })), 'not-found')
  if (found === undefined) return
  const { uid } = (found.details ?? {}) as { readonly uid?: unknown }
  if (typeof uid !== 'string' || uid === '')
    throw new BrokerFault(
      'bad-answer',
      'the Kubernetes API does not say the UID of what a removal would remove',
    )
  const options = deleteOptions({ preconditions: { uid } })
  await told(() => api.request('DELETE', path, options), 'not-found')
}

function deleteOptions(options: object): object {
  return { apiVersion: 'v1', kind: 'DeleteOptions', ...options }
}

/** The hash of each CA certificate's public key, as kubeadm pins it: SHA-256 of the DER of its SubjectPublicKeyInfo. */
export function hashesOf({ ca }: Pick<Kubeconfig, 'ca'>): string[] {
  const blocks = ca.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.map((block) => {
    const key = new X509Certificate(block).publicKey.export({ type: 'spki', format: 'der' })
    return `sha256:${createHash('sha256').update(key).digest('hex')}`
  })
}

/** The API that is asked, however its URL is written: nodes may be told another endpoint than we. */
function apiOf({ server }: Kubeconfig): string {
  return `${server.host}${server.pathname.replace(/\/+$/, '')}`
}

/** The Secret's name. */
function nameOf(handle: string): string {
  return `bootstrap-token-${handle}`
}

function secretOf({ handle, secret, expiresAt, node, session }: Credential, group: string): object {
  const data = {
    'token-id': handle,
    'token-secret': secret,
    // RFC 3339, without the fraction that we write everywhere else.
    expiration: expiresAt.toISOString().replace(/\.\d+Z$/, 'Z'),
    'usage-bootstrap-authentication': 'true',
    'usage-bootstrap-signing': 'true',
    'auth-extra-groups': group,
    description: `Pawl: node ${node}, boot session ${session}`,
  }
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'bootstrap.kubernetes.io/token',
    metadata: {
      name: nameOf(handle),
      namespace: 'kube-system',
      labels: { 'app.kubernetes.io/managed-by': 'pawl' },
      // No labels: a node's name may be longer than one, and a session's begin with a dash.
      annotations: { 'pawl/node': node, 'pawl/session': session },
    },
    data: Object.fromEntries(
      Object.entries(data).map(([name, value]) => [name, Buffer.from(value).toString('base64')]),
    ),
  }
}

/** So many letters and digits, each as likely as any other. */
function letters(count: number, randomBytes: (size: number) => Uint8Array): string {
  let text = ''
  while (text.length < count) {
    for (const byte of randomBytes(count)) {
      // 252 is the largest multiple of 36 in a byte.
      if (byte < 252 && text.length < count) text += alphabet[byte % 36]
    }
  }
  return text
}

function configOf({ kubeconfig = '' }: KubeadmSettings): Kubeconfig {
  try {
    return readKubeconfig(kubeconfig)
  } catch (error) {
    if (isPawlError(error, 'invalid')) throw new BrokerFault('settings', error.message)
    throw error
  }
}

/** How each fault of the API is counted and told. */
const faults: Readonly<Record<KubernetesFault, BackendFault>> = {
  unreachable: 'unreachable',
  timeout: 'timeout',
  'wrong-ca': 'wrong-ca',
  'wrong-name': 'wrong-name',
  'expired-certificate': 'expired-certificate',
  unauthorized: 'unauthorized',
  forbidden: 'forbidden',
  'not-found': 'refused',
  conflict: 'refused',
  'too-many-requests': 'failing',
  refused: 'refused',
  failing: 'failing',
  'bad-answer': 'bad-answer',
}

function faultOf(error: unknown): BrokerFault | undefined {
  return isKubernetesError(error)
    ? new BrokerFault(faults[error.fault], error.message, error.retryAfterSeconds)
    : undefined
}

/** Runs a call; undefined where it failed in the way that is expected. */
async function told<T>(call: () => Promise<T>, expected?: KubernetesFault): Promise<T | undefined> {
  try {
    return await call()
  } catch (error) {
    if (expected !== undefined && isKubernetesError(error, expected)) return undefined
    throw faultOf(error) ?? error
  }
}
