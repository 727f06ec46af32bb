import { parseLabels } from '../domain/node.ts'
import { PawlError } from '../errors.ts'
import { listNodeNames, lockNodes } from '../storage/fleet.ts'
import type { NodeRow } from '../storage/tables.ts'
import { type Change, noSuchNode } from './change.ts'
import { parseGlob } from './glob.ts'
import { readLabels } from './node-view.ts'

/** Which nodes, by exactly one of three ways. */
export interface NodeSelection {
  readonly nodes?: readonly string[]
  /** A pattern of names. */
  readonly match?: string
  /** `KEY=VALUE`. */
  readonly label?: string
}

type Named = Pick<NodeRow, 'name' | 'labels'>
type Selection = { readonly names: readonly string[] } | { readonly wanted: (row: Named) => boolean }

/** Reads a selection; throws `invalid`. */
export function selectionOf({ nodes, match, label }: NodeSelection): Selection {
  if ([nodes, match, label].filter((way) => way !== undefined).length !== 1) {
    throw new PawlError('invalid', 'say which nodes by exactly one of nodes, match and label')
  }
  if (nodes !== undefined) return { names: [...new Set(nodes)] }
  if (match !== undefined) {
    const fits = parseGlob(match)
    return { wanted: (row) => fits(row.name) }
  }
  const [key, value] = parseLabel(label ?? '')
  return { wanted: (row) => readLabels(row.labels)[key] === value }
}

/** A selection in words, as it was asked: for the record. */
export function describeSelection({ nodes, match, label }: NodeSelection): string {
  if (match !== undefined) return `match ${match}`
  if (label !== undefined) return `label ${label}`
  const names = [...new Set(nodes ?? [])]
  return names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ')
}

/** Reads `KEY=VALUE`; throws `invalid`. */
export function parseLabel(text: string): [string, string] {
  const at = text.indexOf('=')
  const [key, value] = at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
  parseLabels({ [key]: value })
  return [key, value]
}

/** The nodes that are meant, by name, kept from changing. Throws `not-found` where one that was named is not there, or none is meant. */
export async function lockSelected({ tx, context }: Change, select: Selection): Promise<NodeRow[]> {
  const names =
    'names' in select ? select.names : (await listNodeNames(tx)).filter(select.wanted).map((row) => row.name)
  const rows = await lockNodes(tx, context.storage.dialect, names)
  if ('names' in select) {
    const found = new Set(rows.map((row) => row.name))
    const missing = names.find((name) => !found.has(name))
    if (missing !== undefined) throw noSuchNode(missing)
  }
  if (rows.length === 0) throw new PawlError('not-found', 'no node matches')
  return rows
}
