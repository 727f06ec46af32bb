import { extensionLimits, operationPattern, parseOperation } from './extension.ts'
import type { Join } from './join.ts'
import Type from './schema.ts'

/** The fields of a profile that are about extensions. */
export const profileExtensionFields = {
  extensions: Type.Optional(
    Type.Array(Type.String({ pattern: operationPattern }), {
      minItems: 1,
      maxItems: extensionLimits.ofProfile,
      uniqueItems: true,
    }),
  ),
  joinFromExtension: Type.Optional(Type.Boolean()),
}

/** What a profile says of extensions; both are left out where it says nothing. */
export interface ProfileExtensions {
  /** The operations that its nodes may ask for, sorted. */
  readonly extensions?: readonly string[]
  /** Whether what an extension answers may become the join that a node runs. */
  readonly joinFromExtension?: boolean
}

/** The same from a profile as it is written. Throws `invalid` for a name that stage 1 has for something else. */
export function extensionsWritten(written: {
  readonly extensions?: readonly string[]
  readonly joinFromExtension?: boolean
}): ProfileExtensions {
  const { extensions, joinFromExtension } = written
  return {
    ...(extensions === undefined ? {} : { extensions: extensions.map(parseOperation).sort() }),
    ...(joinFromExtension === true ? { joinFromExtension } : {}),
  }
}

/** What is wrong with a profile's extensions, given the joins of its sequences: the field, and the rest of the sentence. */
export function extensionsFault(
  { extensions, joinFromExtension }: ProfileExtensions,
  joins: readonly (Join | undefined)[],
): { readonly field: string; readonly what: string } | undefined {
  const asked = joins.flatMap((join) => (join?.kind === 'extension' ? [join.settings.operation] : []))
  if (asked.length > 0 && joinFromExtension !== true)
    return {
      field: 'joinFromExtension',
      what: 'is not true, and a join comes from an extension: nodes would run what another service says',
    }
  if (asked.length === 0 && joinFromExtension === true)
    return { field: 'joinFromExtension', what: 'is true, and no join is of the kind "extension"' }
  const other = asked.find((operation) => extensions?.includes(operation) !== true)
  if (other !== undefined)
    return { field: 'extensions', what: `does not list "${other}", which a join comes from` }
  return undefined
}
