import { profileFileSchema } from '../domain/fleet-file.ts'
import { profileWithValues } from './file-values.ts'
import type { FleetSources } from './fleet-files.ts'
import { type ReadDocument, readDocument } from './one-document.ts'

/** A profile as it stands in a file, of a profile's form. The server fills in defaults and checks what the form does not say. */
export interface WrittenProfile {
  readonly name: string
}

/** Reads a profile from a YAML file, or from stdin for `-`, with its secrets from where they are. Throws `FileFaults`. */
export function readProfile(file: string, sources: FleetSources): Promise<ReadDocument<WrittenProfile>> {
  return readDocument(file, sources, {
    schema: profileFileSchema,
    what: 'a profile',
    withValues: (from, value) => profileWithValues(from, value),
  })
}
