import { isPawlError, PawlError } from '../errors.ts'
import { type ListedImage, type ListedNode, listAll, type OperatorApi } from './api.ts'
import { idOf, isOfStorm, mark, nameOf } from './marks.ts'

/** What a storm has on the server. */
export interface Remains {
  readonly id: string
  readonly nodes: number
  readonly profile: boolean
  readonly images: readonly string[]
  /** When anything of it was last made or changed state: one that runs is never quiet for long. */
  readonly seenAt: string
}

interface Exported {
  readonly nodes: readonly { readonly name: string }[]
  readonly profiles: readonly { readonly name: string }[]
  readonly channels: readonly { readonly channel: string }[]
}

/** Finds what storms have left, or one of them. */
export async function findRemains(api: OperatorApi, only?: string): Promise<Remains[]> {
  const sets = await listAll<{ name: string }, string>(api, '/fleet/sets')
  const images = await stormImages(api)
  const ids = new Set([
    ...sets.flatMap(({ name }) => (nameOf(idOf(name) ?? '') === name ? [idOf(name) as string] : [])), // by the test
    ...images.map(({ id }) => id),
  ])
  const remains: Remains[] = []
  for (const id of [...ids].sort()) {
    if (only !== undefined && id !== only) continue
    const known = sets.some(({ name }) => name === nameOf(id))
    const set = known ? await exported(api, id) : undefined
    const listed = known ? await listAll<ListedNode, string>(api, '/nodes', nodesOf(id)) : []
    const own = images.filter((image) => image.id === id)
    const signs = [...listed.map(({ updatedAt }) => updatedAt), ...own.map(({ createdAt }) => createdAt)]
    const found = {
      id,
      nodes: set?.nodes.length ?? 0,
      profile: (set?.profiles.length ?? 0) > 0,
      images: own.map(({ ref }) => ref),
      seenAt: signs.reduce((latest, at) => (at > latest ? at : latest), ''),
    }
    if (found.nodes > 0 || found.profile || found.images.length > 0) remains.push(found)
  }
  return remains
}

/** A storm whose nodes stand still for so long has ended, however it did. */
const quietMinutes = 10

/** Whether a storm may still run somewhere: to remove it then would fail its boots. */
export function mayRun({ seenAt }: Remains, now: Date): boolean {
  return now.getTime() - Date.parse(seenAt) < quietMinutes * 60_000
}

/**
 * Removes all of a storm: nodes and profile in one transaction, then the images. What is gone already is no fault. Throws
 * `conflict`, and removes nothing, where its set holds anything that does not have the mark.
 */
export async function removeStorm(api: OperatorApi, id: string): Promise<void> {
  const sets = await listAll<{ name: string }, string>(api, '/fleet/sets')
  if (sets.some(({ name }) => name === nameOf(id))) {
    refuseUnmarked(id, await exported(api, id), await listAll<ListedNode, string>(api, '/nodes', nodesOf(id)))
    const nothing = { set: nameOf(id), nodes: [], profiles: [], channels: [] }
    await api.post('/fleet', { ...nothing, prune: true, allowMassRemoval: true })
  }
  for (const { ref } of (await stormImages(api)).filter((image) => image.id === id)) {
    const [name = '', version = ''] = ref.split('@')
    await api.delete(`/images/${name}/${version}`).catch((error: unknown) => {
      if (!isPawlError(error, 'not-found')) throw error
    })
  }
}

function nodesOf(id: string): Record<string, string> {
  return { match: `${nameOf(id)}-*` }
}

/** The set of a storm has its profile and marked nodes, and nothing else: what else is there is somebody's. */
function refuseUnmarked(id: string, set: Exported, nodes: readonly ListedNode[]): void {
  const marked = new Set(nodes.filter((node) => isOfStorm(id, node)).map(({ name }) => name))
  const strangers = [
    ...set.nodes.filter(({ name }) => !marked.has(name)).map(({ name }) => `node "${name}"`),
    ...set.profiles.filter(({ name }) => name !== nameOf(id)).map(({ name }) => `profile "${name}"`),
    ...set.channels.map(({ channel }) => `channel "${channel}"`),
  ]
  if (strangers.length === 0) return
  const more = strangers.length > 3 ? ` and ${strangers.length - 3} more` : ''
  throw new PawlError(
    'conflict',
    `${strangers.slice(0, 3).join(', ')}${more} in the set "${nameOf(id)}" without the label ${mark}=${id}`,
    {
      hint: 'nothing was removed: what is not marked is not touched. Take it out of the set, or give it the label',
    },
  )
}

function exported(api: OperatorApi, id: string): Promise<Exported> {
  return api.get<Exported>('/fleet', { set: nameOf(id) })
}

/** Images by their annotation and name, both. */
async function stormImages(api: OperatorApi): Promise<{ id: string; ref: string; createdAt: string }[]> {
  const images = await listAll<ListedImage, string>(api, '/images')
  return images.flatMap(({ ref, createdAt, manifest }) => {
    const id = manifest.annotations?.[mark]
    return id !== undefined && id === idOf(ref) ? [{ id, ref, createdAt }] : []
  })
}
