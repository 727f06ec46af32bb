import { randomBytes } from 'node:crypto'
import { stormLabel } from '../domain/storm-label.ts'
import { PawlError } from '../errors.ts'

/** The label of a storm's nodes, and the annotation of its images. Nothing without it is ever touched. */
export const mark = stormLabel

const idPattern = /^[a-z0-9]{6}$/

/** A new storm's name. */
export function newStormId(): string {
  return randomBytes(8)
    .toString('base64url')
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '')
    .padEnd(6, '0')
    .slice(0, 6)
}

/** Reads one; throws `usage`. */
export function parseStormId(text: string): string {
  if (idPattern.test(text)) return text
  throw new PawlError('usage', `"${text.slice(0, 40)}" is not the id of a storm: six letters and digits`)
}

/** What the fleet set, the profile and the beginning of every other name of a storm is. */
export function nameOf(id: string): string {
  return `storm-${id}`
}

/** The id in a name of a storm's; undefined where it is none. */
export function idOf(name: string): string | undefined {
  return /^storm-([a-z0-9]{6})(?:-|$)/.exec(name)?.[1]
}

/** The nth node, from 0 on. */
export function nodeNameOf(id: string, index: number): string {
  return `${nameOf(id)}-${String(index + 1).padStart(5, '0')}`
}

/** Whether a node is of this storm, by its name and its label. */
export function isOfStorm(
  id: string,
  node: { readonly name: string; readonly labels: Readonly<Record<string, string>> },
): boolean {
  return node.labels[mark] === id && new RegExp(`^${nameOf(id)}-\\d{5}$`).test(node.name)
}

/** The address that a node speaks from where the server is on loopback: of 127.64.0.0/10, which nothing else uses. */
export function loopbackAddress(index: number): string {
  const [high, middle, low] = [Math.floor(index / 62_500), Math.floor(index / 250) % 250, index % 250]
  return `127.${64 + high}.${middle + 1}.${low + 1}`
}
