import Type, { type Static } from './schema.ts'

/**
 * Where machines find a cache of artifacts near them. Artifacts are immutable and named by their digest, so any HTTP cache may
 * stand there, by `http://` too: who fetches checks the digest, and asks Pawl itself where it does not fit.
 */

/** As it stands before `/v1/artifacts/sha256/…`; what a script and a shell can carry, without user, query or a slash at its end. */
const baseUrl = Type.String({
  pattern:
    '^https?://(?:[A-Za-z0-9.-]*[A-Za-z0-9]|\\[[0-9a-fA-F:.]+\\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*$',
  maxLength: 256,
})

/** One for all nodes, or one for each value of the node's label `site`. */
export const artifactBaseSchema = Type.Union([
  baseUrl,
  Type.Record(Type.String({ pattern: '^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$' }), baseUrl, {
    additionalProperties: false,
    minProperties: 1,
    maxProperties: 1000,
  }),
])

export type ArtifactBase = Static<typeof artifactBaseSchema>

/** The base for a node; undefined where its site has none: then it asks Pawl itself. */
export function artifactBaseOf(
  base: ArtifactBase | undefined,
  labels: Readonly<Record<string, string>>,
): string | undefined {
  if (base === undefined || typeof base === 'string') return base
  const { site } = labels
  return site !== undefined && Object.hasOwn(base, site) ? base[site] : undefined
}

/** Where a cache has an artifact: it has Pawl's own paths. */
export function cachedUrl(base: string, digest: string): string {
  return `${base}/v1/artifacts/sha256/${digest}`
}
