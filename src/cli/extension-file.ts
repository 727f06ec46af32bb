import { extensionFileSchema } from '../domain/extension-file.ts'
import { extensionWithValues } from './file-values.ts'
import type { FleetSources } from './fleet-files.ts'
import { type ReadDocument, readDocument } from './one-document.ts'

/** An extension as it stands in a file, of an extension's form. */
export interface WrittenExtension {
  readonly operation: string
}

/** Reads an extension from a YAML file, or from stdin for `-`, with its values from where they are. Throws `FileFaults`. */
export function readExtension(file: string, sources: FleetSources): Promise<ReadDocument<WrittenExtension>> {
  return readDocument(file, sources, {
    schema: extensionFileSchema,
    what: 'an extension',
    withValues: extensionWithValues,
  })
}
