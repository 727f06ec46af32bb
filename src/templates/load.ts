import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Liquid, type Template } from 'liquidjs'
import { PawlError } from '../errors.ts'
import { checkWord, type ScriptLanguage } from './value.ts'
import { type TemplateName, type TemplateVariables, templateVariables } from './variables.ts'

/** The scripts served to nodes, read and checked once. Rendering does no I/O: it happens inside transactions. */
export interface Templates {
  /** Renders a script; throws `render-failed` for a value that the script cannot carry. */
  render<Name extends TemplateName>(name: Name, variables: TemplateVariables[Name]): string
}

/** iPXE reads a script into memory whole; ours have some kilobytes. */
const maxRendered = 64 * 1024

/**
 * Loads every template from the first of `folders` that has it, so that an operator's folder can replace single files.
 * Throws `render-failed` for one that is missing, does not parse, or names a variable that it is not given.
 */
export function loadTemplates(folders: readonly string[]): Templates {
  const engines = { ipxe: engineFor('ipxe'), shell: engineFor('shell') }
  const names = Object.keys(templateVariables) as TemplateName[] // the table's own keys
  const parsed = new Map(names.map((name) => [name, loadOne(engines[languageOf(name)], folders, name)]))
  return {
    render(name, variables) {
      const template = parsed.get(name)
      if (template === undefined) throw new PawlError('render-failed', `there is no template "${name}"`)
      return checked(name, renderOne(engines[languageOf(name)], template, name, variables))
    },
  }
}

function languageOf(name: string): ScriptLanguage {
  return name.endsWith('.sh') ? 'shell' : 'ipxe'
}

/** No JavaScript, no files, no values but those handed in; whatever is put out passes the check for its language. */
function engineFor(language: ScriptLanguage): Liquid {
  const engine = new Liquid({
    strictVariables: true,
    strictFilters: true,
    ownPropertyOnly: true,
    templates: {}, // `include` and `render` find nothing
    outputEscape: (value: unknown) => checkWord(textOf(value), language, 'a value'),
  })
  engine.registerFilter('raw', () => {
    throw new PawlError(
      'render-failed',
      'templates may not use the filter "raw": it would skip the check of values',
    )
  })
  return engine
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value)
  throw new PawlError(
    'render-failed',
    `a ${Array.isArray(value) ? 'list' : typeof value} cannot stand in a script`,
  )
}

function loadOne(engine: Liquid, folders: readonly string[], name: TemplateName): Template[] {
  const file = folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
  if (file === undefined)
    throw new PawlError('render-failed', `template ${name} is in none of: ${folders.join(', ')}`)
  const text = readFileSync(file, 'utf8')
  const template = explaining(file, () => engine.parse(text))
  const known: readonly string[] = templateVariables[name]
  const unknown = explaining(file, () => engine.globalVariablesSync(template)).find(
    (used) => !known.includes(used),
  )
  if (unknown !== undefined) {
    throw new PawlError('render-failed', `template ${file} uses "${unknown}", which it is not given`, {
      hint: `it may use: ${known.join(', ')}`,
    })
  }
  return template
}

function renderOne(engine: Liquid, template: Template[], name: string, variables: object): string {
  return explaining(name, () => String(engine.renderSync(template, variables)))
}

function checked(name: string, text: string): string {
  if (!/^#!/.test(text)) throw new PawlError('render-failed', `template ${name} does not begin with #!`)
  if (/[^\n -~]/.test(text))
    throw new PawlError('render-failed', `template ${name} renders characters that are not printable ASCII`)
  if (text.length > maxRendered)
    throw new PawlError(
      'render-failed',
      `template ${name} renders ${text.length} bytes, above ${maxRendered}`,
    )
  return text
}

/** Runs a step of the engine; its errors hold source lines and values, of which only our own words go on. */
function explaining<T>(what: string, step: () => T): T {
  try {
    return step()
  } catch (error) {
    const own = originOf(error)
    throw own ?? new PawlError('render-failed', `template ${what}: ${firstLine(error)}`)
  }
}

function originOf(error: unknown): PawlError | undefined {
  for (let at: unknown = error; at instanceof Error; at = (at as { originalError?: unknown }).originalError) {
    if (at instanceof PawlError) return at
  }
  return undefined
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? ''
}
