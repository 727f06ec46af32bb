import type { Readable } from 'node:stream'
import { profileFileSchema } from '../domain/fleet-file.ts'
import { faultsOf } from './schema-faults.ts'
import { readYaml } from './yaml-file.ts'

/** A profile as it stands in a file, of a profile's form. The server fills in defaults and checks what the form does not say. */
export interface WrittenProfile {
  readonly name: string
}

/** Reads a profile from a YAML file, or from stdin for `-`. Throws `invalid` naming file, line, column and field. */
export async function readProfile(file: string, stdin: Readable): Promise<WrittenProfile> {
  const yaml = await readYaml(file, stdin)
  const [fault] = faultsOf(profileFileSchema, yaml.value, 'a profile')
  if (fault !== undefined) throw yaml.fault(fault.path, fault.message, fault.hint)
  return yaml.value as WrittenProfile // checked above
}
