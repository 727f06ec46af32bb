import Type, { Compile, type Static } from '../domain/schema.ts'
import type { Kubernetes } from './client.ts'
import { isKubernetesError, KubernetesError } from './faults.ts'

/**
 * Drains a node as `kubectl drain` does, one pass at a time, so that whoever is killed between two passes loses nothing: each asks the
 * cluster what is there, and evicts what is not on its way yet.
 */

/** What may be evicted that is not made again as it was. */
export interface DrainWishes {
  readonly gracePeriodSeconds?: number | undefined
  readonly deleteEmptyDirData?: boolean | undefined
  readonly force?: boolean | undefined
}

/** What came of a pass. */
export type DrainPass =
  | { readonly kind: 'drained' }
  /** So many pods are left; what is waited for, in words. */
  | { readonly kind: 'draining'; readonly left: number; readonly waitsFor: string }
  /** There are pods that the wishes do not allow to evict; none was evicted. */
  | { readonly kind: 'refused'; readonly message: string }

const metadata = Type.Object({
  name: Type.String({ pattern: '^[a-z0-9.-]{1,253}$' }),
  namespace: Type.String({ pattern: '^[a-z0-9-]{1,63}$' }),
  uid: Type.String({ maxLength: 128 }),
  deletionTimestamp: Type.Optional(Type.String()),
  annotations: Type.Optional(Type.Record(Type.String(), Type.String())),
  ownerReferences: Type.Optional(
    Type.Array(Type.Object({ kind: Type.String(), controller: Type.Optional(Type.Boolean()) })),
  ),
})

const podSchema = Type.Object({
  metadata,
  spec: Type.Object({
    nodeName: Type.String(),
    volumes: Type.Optional(Type.Array(Type.Object({ emptyDir: Type.Optional(Type.Unknown()) }))),
  }),
  status: Type.Optional(Type.Object({ phase: Type.Optional(Type.String()) })),
})

type Pod = Static<typeof podSchema>

const podList = Compile(
  Type.Object({
    metadata: Type.Optional(Type.Object({ continue: Type.Optional(Type.String({ maxLength: 16_384 })) })),
    items: Type.Array(podSchema),
  }),
)

const nodeObject = Compile(
  Type.Object({
    metadata: Type.Object({ name: Type.String() }),
    spec: Type.Object({ unschedulable: Type.Optional(Type.Boolean()) }),
  }),
)

const resourceList = Compile(
  Type.Object({
    resources: Type.Array(
      Type.Object({
        name: Type.String(),
        group: Type.Optional(Type.String()),
        version: Type.Optional(Type.String()),
      }),
    ),
  }),
)

/** Whether the cluster schedules nothing to a node. Throws KubernetesError; `not-found` where the cluster has none of this name. */
export async function isUnschedulable(api: Kubernetes, node: string): Promise<boolean> {
  const found = await api.request('GET', nodePath(node))
  if (!nodeObject.Check(found) || found.metadata.name !== node) throw notTheObject('a node')
  return found.spec.unschedulable ?? false
}

/** Has the cluster schedule nothing to a node, or schedule to it again. Twice is once. */
export async function setUnschedulable(api: Kubernetes, node: string, unschedulable: boolean): Promise<void> {
  await api.request('PATCH', nodePath(node), { spec: { unschedulable } })
}

/** Removes the node's object: says whether there was one. */
export async function deleteNodeObject(api: Kubernetes, node: string): Promise<boolean> {
  try {
    await api.request('DELETE', nodePath(node))
    return true
  } catch (error) {
    if (isKubernetesError(error, 'not-found')) return false
    throw error
  }
}

/**
 * One pass of a drain of a node that is unschedulable already. Of more pods than one pass evicts, the `turn` says which are asked for: budgets
 * that keep the first do not hold up the others. Throws KubernetesError.
 */
export async function drainPass(
  api: Kubernetes,
  node: string,
  wishes: DrainWishes,
  turn = 0,
): Promise<DrainPass> {
  const pods = (await podsOf(api, node)).filter(isToLeave)
  if (pods.length === 0) return { kind: 'drained' }
  const message = refusalOf(pods, wishes)
  if (message !== undefined) return { kind: 'refused', message }
  const standing = pods.filter((pod) => pod.metadata.deletionTimestamp === undefined)
  const version = standing.length === 0 ? '' : await evictionVersion(api)
  const held: string[] = []
  for (const pod of inTurn(standing, turn)) {
    const why = await evict(api, pod, version, wishes)
    if (why !== undefined) held.push(`${nameOf(pod)}: ${why}`)
  }
  const [first] = held
  const waitsFor =
    first === undefined ? listed(pods.map(nameOf), 'to end') : `${first}${andMore(held.length - 1)}`
  return { kind: 'draining', left: pods.length, waitsFor }
}

const evictionsAtOnce = 50

function inTurn(pods: readonly Pod[], turn: number): Pod[] {
  if (pods.length <= evictionsAtOnce) return [...pods]
  const start = (turn * evictionsAtOnce) % pods.length
  return [...pods.slice(start), ...pods.slice(0, start)].slice(0, evictionsAtOnce)
}

const podsAtOnce = 50
/** Kubernetes supports 110 pods a node, and some clusters more. */
const maxPages = 40

async function podsOf(api: Kubernetes, node: string): Promise<Pod[]> {
  const pods: Pod[] = []
  let next = ''
  for (let page = 0; page < maxPages; page += 1) {
    const query = new URLSearchParams({ fieldSelector: `spec.nodeName=${node}`, limit: String(podsAtOnce) })
    if (next !== '') query.set('continue', next)
    const list = await api.request('GET', `/api/v1/pods?${query}`)
    if (!podList.Check(list) || list.items.length > 1000) throw notTheObject('a list of pods')
    // A selector that the other end does not know would have us evict the pods of other nodes.
    const other = list.items.find(({ spec }) => spec.nodeName !== node)
    if (other !== undefined)
      throw new KubernetesError('bad-answer', 'the Kubernetes API answered with pods of another node')
    pods.push(...list.items)
    next = list.metadata?.continue ?? ''
    if (next === '') return pods
  }
  throw new KubernetesError('bad-answer', `the Kubernetes API answered more than ${maxPages} pages of pods`)
}

/** Pods of DaemonSets would be made again at once, and mirrors of static pods are the kubelet's own. */
function isToLeave({ metadata }: Pod): boolean {
  return (
    controllerOf(metadata) !== 'DaemonSet' && !('kubernetes.io/config.mirror' in (metadata.annotations ?? {}))
  )
}

function controllerOf({ ownerReferences = [] }: Pod['metadata']): string | undefined {
  return ownerReferences.find(({ controller }) => controller === true)?.kind
}

function refusalOf(pods: readonly Pod[], { force, deleteEmptyDirData }: DrainWishes): string | undefined {
  const going = pods.filter(
    ({ metadata, status }) =>
      metadata.deletionTimestamp === undefined && status?.phase !== 'Succeeded' && status?.phase !== 'Failed',
  )
  const alone = force === true ? [] : going.filter(({ metadata }) => controllerOf(metadata) === undefined)
  const holding =
    deleteEmptyDirData === true
      ? []
      : going.filter(({ spec }) => spec.volumes?.some(({ emptyDir }) => emptyDir !== undefined) === true)
  const parts = [
    ...(alone.length === 0
      ? []
      : [`${listed(alone.map(nameOf))}: no controller makes it again (leave.force evicts such pods)`]),
    ...(holding.length === 0
      ? []
      : [
          `${listed(holding.map(nameOf))}: it has an emptyDir volume, whose data would be lost (leave.deleteEmptyDirData evicts such pods)`,
        ]),
  ]
  return parts.length === 0 ? undefined : parts.join('; ')
}

/** Kubernetes from 1.22 on evicts by policy/v1, the ones before by policy/v1beta1: the list of resources says which, as kubectl finds it. */
async function evictionVersion(api: Kubernetes): Promise<string> {
  const usual = 'policy/v1'
  try {
    const list = await api.request('GET', '/api/v1')
    const found = resourceList.Check(list)
      ? list.resources.find(({ name }) => name === 'pods/eviction')
      : undefined
    return found?.group === 'policy' && found.version === 'v1beta1' ? 'policy/v1beta1' : usual
  } catch (error) {
    if (isKubernetesError(error, 'forbidden') || isKubernetesError(error, 'not-found')) return usual
    throw error
  }
}

/** Evicts a pod; says why it stays for now. */
async function evict(
  api: Kubernetes,
  { metadata: { name, namespace, uid } }: Pod,
  apiVersion: string,
  { gracePeriodSeconds }: DrainWishes,
): Promise<string | undefined> {
  const body = {
    apiVersion,
    kind: 'Eviction',
    metadata: { name, namespace },
    deleteOptions: {
      ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
      preconditions: { uid },
    },
  }
  try {
    await api.request('POST', `/api/v1/namespaces/${namespace}/pods/${name}/eviction`, body)
    return undefined
  } catch (error) {
    if (!isKubernetesError(error)) throw error
    // Gone meanwhile, or another by now that the next pass will see; or a namespace that is being removed with all in it.
    if (error.fault === 'not-found' || error.fault === 'conflict') return undefined
    if (error.fault === 'forbidden' && error.message.includes('being terminated')) return undefined
    if (error.fault === 'too-many-requests') return 'its disruption budget does not let it go now'
    if (error.fault === 'failing') return error.message
    throw error
  }
}

function nameOf({ metadata: { namespace, name } }: Pod): string {
  return `pod ${namespace}/${name}`
}

function listed(names: readonly string[], what?: string): string {
  const [first = ''] = names
  return `${first}${andMore(names.length - 1)}${what === undefined ? '' : ` ${what}`}`
}

function andMore(count: number): string {
  return count === 0 ? '' : ` and ${count} more`
}

function nodePath(node: string): string {
  return `/api/v1/nodes/${encodeURIComponent(node)}`
}

function notTheObject(what: string): KubernetesError {
  return new KubernetesError('bad-answer', `the Kubernetes API did not answer with ${what}`)
}
