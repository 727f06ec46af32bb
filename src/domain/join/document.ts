import { Liquid } from 'liquidjs'
import { parseDocument } from 'yaml'
import { isPawlError, PawlError } from '../../errors.ts'
import type { JoinFault } from './kind.ts'

/**
 * Documents of a profile that are given to a node with its own values in them: user data, an Ignition configuration. Liquid with less of
 * it: no loops, no files, and a variable that is not known is an error and never nothing. All values are of letters, digits, `.`, `_` and `-`,
 * so that each can stand inside quotes of YAML or JSON.
 */
export interface DocumentValues {
  readonly host: string
  readonly session: string
  /** What cloud-init takes for another machine when it changes: the session. */
  readonly instanceId: string
  readonly profile: string
  readonly sequence: string
  readonly labels: Readonly<Record<string, string>>
}

const variables = {
  ...{ host: true, session: true, instanceId: true, profile: true, sequence: true, labels: true },
} as const satisfies Record<keyof DocumentValues, true>

/** So much of it may be rendered. */
export const maxRenderedBytes = 256 * 1024

const tags = new Set(['if', 'unless', 'case', 'comment', 'raw', '#'])
const filters = new Set(['append', 'prepend', 'default', 'downcase', 'upcase'])

function createEngine(): Liquid {
  const engine = new Liquid({
    strictVariables: true,
    strictFilters: true,
    ownPropertyOnly: true,
    lenientIf: true, // `{% if labels.rack %}` and `| default:` are for labels that not every node has
    templates: {}, // a file of the disk is never looked for
    parseLimit: maxRenderedBytes,
    memoryLimit: 8 * maxRenderedBytes,
  })
  for (const tag of Object.keys(engine.tags)) {
    if (!tags.has(tag))
      engine.registerTag(tag, {
        parse: () => {
          throw new Error(`the tag "${tag}" is not for documents`)
        },
        render: () => '',
      })
  }
  for (const filter of Object.keys(engine.filters)) {
    if (!filters.has(filter)) engine.unregisterFilter(filter)
  }
  return engine
}

const engine = createEngine()

/** The document with these values; throws `render-failed` in words that quote no value. */
export function renderDocument(text: string, values: DocumentValues): string {
  try {
    const rendered = String(engine.renderSync(engine.parse(text), values))
    const bytes = Buffer.byteLength(rendered)
    if (bytes > maxRenderedBytes) throw new Error(`becomes ${bytes} bytes, more than ${maxRenderedBytes}`)
    return rendered
  } catch (error) {
    throw new PawlError('render-failed', firstLine(error))
  }
}

/** The document as it is tried before any node has it; throws `render-failed` naming a variable that there is none of. */
export function tryDocument(text: string): string {
  return renderDocument(text, {
    ...example,
    labels: Object.fromEntries(labelsIn(text).map((name) => [name, 'x'])),
  })
}

/** The labels that a document names. */
function labelsIn(text: string): string[] {
  const used = attempt(() => engine.globalVariableSegmentsSync(engine.parse(text)))
  const unknown = used.find(([name]) => !Object.hasOwn(variables, String(name)))
  if (unknown !== undefined) {
    const known = Object.keys(variables).map((name) => (name === 'labels' ? 'labels.NAME' : name))
    throw new PawlError(
      'render-failed',
      `uses "${String(unknown[0]).slice(0, 64)}", which there is not: ${known.join(', ')}`,
    )
  }
  if (used.some(([name, label]) => name === 'labels' && label === 'size'))
    throw new PawlError(
      'render-failed',
      'uses "labels.size", which is how many labels there are, and never missed: name that label otherwise',
    )
  return used.flatMap(([name, label]) => (name === 'labels' && typeof label === 'string' ? [label] : []))
}

const example: Omit<DocumentValues, 'labels'> = {
  host: 'node1.example.com',
  session: 'AAAAAAAAAAAA',
  instanceId: 'AAAAAAAAAAAA',
  profile: 'profile',
  sequence: 'boot',
}

/**
 * What is wrong with the document in a setting. `check` is given it rendered as for some node, and throws `render-failed`
 * where what reads it there would not take it.
 */
export function documentFault(
  at: string,
  text: string,
  check: (rendered: string) => unknown = () => {},
): JoinFault | undefined {
  try {
    check(tryDocument(text))
    return undefined
  } catch (error) {
    if (isPawlError(error, 'render-failed')) return { at, message: error.message }
    throw error
  }
}

function attempt<T>(step: () => T): T {
  try {
    return step()
  } catch (error) {
    throw new PawlError('render-failed', firstLine(error))
  }
}

/** Liquid quotes lines of the text behind the first, and in it what is not closed, which could be a secret's. */
function firstLine(error: unknown): string {
  const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n')
  return line.replace(/^(tag|output) .* (not closed)/, 'a $1 is $2').slice(0, 200)
}

/** What is wrong with text as YAML whose top is a mapping, or its values. As cloud-init's own reader takes it: YAML 1.1. */
export function readYaml(
  text: string,
): { readonly value: Record<string, unknown> } | { readonly fault: string } {
  const document = parseDocument(text, { version: '1.1', prettyErrors: true, logLevel: 'silent' })
  const [error] = document.errors
  if (error !== undefined) {
    const line = error.linePos?.[0].line
    return {
      fault: `is not YAML${line === undefined ? '' : `, line ${line}`}: ${error.code.toLowerCase().replaceAll('_', ' ')}`,
    }
  }
  const value = attempt(() => document.toJS({ maxAliasCount: 100 }) as unknown)
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { fault: 'is not a mapping of YAML: "key: value" lines' }
  return { value: value as Record<string, unknown> }
}
