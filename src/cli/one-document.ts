import type { TSchema } from '../domain/schema.ts'
import type { PawlError } from '../errors.ts'
import type { ResolvedFrom } from './file-values.ts'
import { FileFaults, type FleetSources } from './fleet-files.ts'
import { faultsOf } from './schema-faults.ts'
import { readYaml } from './yaml-file.ts'

/** A document, and what is worth telling of it. */
export interface ReadDocument<Document> {
  readonly document: Document
  readonly warnings: readonly string[]
}

/** What a file must hold, and how its values are found. */
interface Form {
  readonly schema: TSchema
  /** `a profile` */
  readonly what: string
  readonly withValues: (from: ResolvedFrom, value: Record<string, unknown>) => Promise<unknown>
}

/**
 * Reads the one document of a file, in the way that fleet files are read: checked against its form, with its values from where they are.
 * Throws `FileFaults` with each fault at its line and column.
 */
export async function readDocument<Document>(
  file: string,
  { stdin, env }: FleetSources,
  { schema, what, withValues }: Form,
): Promise<ReadDocument<Document>> {
  const yaml = await readYaml(file, stdin)
  const found = faultsOf(schema, yaml.value, what)
  if (found.length > 0)
    throw new FileFaults(found.map(({ path, message, hint }) => yaml.fault(path, message, hint)))
  const faults: PawlError[] = []
  const warnings: string[] = []
  const value = yaml.value as Record<string, unknown> // checked above
  const document = await withValues({ yaml, file, env, faults, warnings }, value)
  if (faults.length > 0) throw new FileFaults(faults)
  return { document: document as Document, warnings }
}
