import type { PawlError } from '../errors.ts'
import { type ResolvedSecrets, resolveExtension, resolveHook, resolveSecrets } from './fleet-secrets.ts'
import type { YamlFile } from './yaml-file.ts'

type Path = readonly string[]
type Document = Record<string, unknown>
type Hook = Parameters<typeof resolveHook>[0]

/** A document of a file, and what is told of it: faults and warnings are added to those that are there already. */
export interface ResolvedFrom {
  readonly yaml: YamlFile
  /** The file, as it was named: paths in it are relative to its folder. */
  readonly file: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly faults: PawlError[]
  readonly warnings: string[]
}

/**
 * A profile with the values of its joins and hooks in place of where they come from. `named` finds the join of a document of its own; left
 * out, there are none.
 */
export async function profileWithValues(
  from: ResolvedFrom,
  profile: Document,
  named?: (path: Path, name: string) => unknown,
): Promise<Document> {
  const whole = { ...profile }
  for (const sequence of ['boot', 'reinstall']) {
    const written = profile[sequence] as { join?: { from?: string } } | undefined
    if (typeof written !== 'object' || written.join === undefined) continue
    const path = [sequence, 'join']
    const { join } = written
    const isNamed = named !== undefined && join.from !== undefined
    whole[sequence] = {
      ...written,
      join: isNamed ? named(path, String(join.from)) : await joinWithValues(from, path, join as Document),
    }
  }
  for (const name of ['leave', 'reboot']) {
    const hook = profile[name] as Hook | undefined
    if (hook !== undefined) whole[name] = told(from, [name], await resolveHook(hook, from))
  }
  return whole
}

/** A join in the same way. */
export async function joinWithValues(from: ResolvedFrom, path: Path, join: Document): Promise<Document> {
  return told(from, path, await resolveSecrets(join, from))
}

/** An extension in the same way. */
export async function extensionWithValues(from: ResolvedFrom, extension: Document): Promise<Document> {
  return told(from, [], await resolveExtension(extension, from))
}

function told({ yaml, faults, warnings }: ResolvedFrom, path: Path, resolved: ResolvedSecrets): Document {
  for (const { setting, message } of resolved.faults) {
    const at = [...path, ...setting.split('.')]
    faults.push(yaml.fault(at, `${at.join('.')} ${message}`))
  }
  for (const setting of resolved.inClear) {
    const at = [...path, ...setting.split('.')]
    warnings.push(
      `${yaml.place(at)}: ${at.join('.')} is in the file as it is; fromEnv or fromFile keep it out`,
    )
  }
  return resolved.value
}
