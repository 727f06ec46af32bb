import { Liquid, type Template } from 'liquidjs'
import { PawlError } from '../errors.ts'
import { printable } from './ipxe-value.ts'

/**
 * Liquid, with less of it: no JavaScript, no files, and nothing that prints past `outputEscape`. Values have been checked
 * for their place before they come here; what is printed is checked once more, since an operator's own template may print
 * one value where another was meant.
 */
export function createEngine(): Liquid {
  const engine = new Liquid({
    strictVariables: true,
    strictFilters: true,
    ownPropertyOnly: true,
    templates: {}, // a file of the disk is never looked for
    outputEscape: (value: unknown) => printable(asText(value), 'a value'),
  })
  for (const tag of Object.keys(engine.tags)) {
    if (!tags.has(tag)) engine.registerTag(tag, { parse: () => refuse(`the tag "${tag}"`), render: () => '' })
  }
  for (const filter of Object.keys(engine.filters)) {
    if (!filters.has(filter)) engine.unregisterFilter(filter)
  }
  engine.registerFilter('raw', () => refuse('the filter "raw", which would print what was not checked'))
  return engine
}

/** What templates may use; `include`, `render` and `layout` would read other files, `raw` would print unchecked. */
const tags = new Set(['if', 'unless', 'case', 'for', 'break', 'continue', 'assign', 'comment', '#'])
const filters = new Set([
  'append',
  'prepend',
  'default',
  'downcase',
  'upcase',
  'first',
  'last',
  'join',
  'size',
  'sort',
])

/** iPXE holds a script in memory whole; ours have some kilobytes. */
const maxScriptBytes = 64 * 1024

/** Renders a parsed template. No I/O and nothing asynchronous: it happens inside database transactions. */
export function renderScript(
  engine: Liquid,
  name: string,
  template: Template[],
  values: Readonly<Record<string, unknown>>,
): string {
  const script = explained(name, () => String(engine.renderSync(template, values)))
  const firstLine = name.endsWith('.sh') ? '#!/bin/sh\n' : '#!ipxe\n'
  if (!script.startsWith(firstLine)) throw failed(name, `does not begin with ${firstLine.trim()}`)
  const bad = /[^\n -~]/.exec(script)
  if (bad !== null) {
    const line = script.slice(0, bad.index).split('\n').length
    throw failed(name, `renders a character that is not printable ASCII in line ${line}`)
  }
  if (script.length > maxScriptBytes)
    throw failed(name, `renders ${script.length} bytes, more than ${maxScriptBytes}`)
  return script
}

/** Runs a step of the engine. Its errors quote source lines, and could quote values: only their first line goes on. */
export function explained<T>(name: string, step: () => T): T {
  try {
    return step()
  } catch (error) {
    const own = ownError(error)
    throw failed(name, own === undefined ? `fails: ${firstLineOf(error)}` : `fails: ${own.message}`)
  }
}

function asText(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value)
  return refuse(`${Array.isArray(value) ? 'a list' : `a ${typeof value}`} where text is printed`)
}

function refuse(what: string): never {
  throw new PawlError('render-failed', `templates may not use ${what}`)
}

function ownError(error: unknown): PawlError | undefined {
  for (let at = error; at instanceof Error; at = (at as { originalError?: unknown }).originalError) {
    if (at instanceof PawlError) return at
  }
  return undefined
}

function firstLineOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? ''
}

function failed(name: string, what: string): PawlError {
  return new PawlError('render-failed', `template ${name} ${what}`)
}
