import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { kubernetesAbsent, startKubernetes } from '../helpers/kubernetes-cluster.ts'

/** deploy/kubernetes/pawl.yaml as a real API server reads it: one that knows no field by a name would leave it out without a word. */
interface Sent {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
}

const collections: Readonly<Record<string, string>> = {
  Namespace: '/api/v1/namespaces',
  Deployment: '/apis/apps/v1/namespaces/pawl/deployments',
  Service: '/api/v1/namespaces/pawl/services',
  PodDisruptionBudget: '/apis/policy/v1beta1/namespaces/pawl/poddisruptionbudgets',
}

/** What was sent and is not in the answer, by its place. */
function lost(sent: unknown, answered: unknown, place = ''): string[] {
  if (typeof sent !== 'object' || sent === null) return sent === answered ? [] : [`${place}: ${sent}`]
  return Object.entries(sent).flatMap(([name, value]) =>
    lost(value, (answered as Record<string, unknown> | undefined)?.[name], `${place}.${name}`),
  )
}

t.test(
  'a real API server takes every field of the manifest',
  { skip: kubernetesAbsent() ?? false },
  async (t) => {
    const { admin } = await startKubernetes(t)
    const text = readFileSync(join(import.meta.dirname, '../../deploy/kubernetes/pawl.yaml'), 'utf8')
    const documents = parseAllDocuments(text).map((document) => document.toJS() as Sent)
    t.equal(documents.length, 5)
    for (const document of documents) {
      const { kind, metadata } = document
      // Kubernetes 1.20 has policy/v1 under the name of before; its fields are the same.
      const sent = kind === 'PodDisruptionBudget' ? { ...document, apiVersion: 'policy/v1beta1' } : document
      const answered = await admin.request('POST', collections[kind] ?? '', sent)
      t.same(lost(sent, answered), [], `${kind} ${metadata.name}`)
    }
  },
)
