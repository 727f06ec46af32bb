/**
 * The scripts served to nodes. Templates are read, parsed and tried once, at start: what is wrong with one is found then,
 * and rendering later is pure. Values are refused, never escaped (`ipxe-value.ts`); which template takes which values is one
 * table (`variables.ts`); what templates may do at all is in `render.ts`.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Liquid, Template } from 'liquidjs'
import { PawlError } from '../errors.ts'
import { createEngine, explained, renderScript } from './render.ts'
import {
  checkVariables,
  exampleVariables,
  type TemplateName,
  type TemplateVariables,
  templateNames,
  templateVariables,
} from './variables.ts'

/** The templates, ready to render. */
export interface Templates {
  /**
   * Renders one script: printable ASCII that begins with `#!ipxe` (or `#!/bin/sh`). Synchronous, no I/O. Throws
   * `render-failed`, or `invalid`, naming the field, for a value that its place in the script cannot carry.
   */
  render<Name extends TemplateName>(name: Name, variables: TemplateVariables[Name]): string
}

/**
 * Loads every template from the first of `folders` that has it, so that an operator's folder can replace single files; a
 * folder that does not exist has none. The last folder is Pawl's own. Throws `render-failed`, naming the file, for a template
 * that is missing, does not parse, uses a variable it is not given, or does not render with harmless values; and for a file
 * that replaces nothing.
 */
export function loadTemplates(folders: readonly string[]): Templates {
  const engine = createEngine()
  checkFileNames(folders)
  const parsed = new Map(templateNames.map((name) => [name, loadOne(engine, folders, name)]))
  return {
    render(name, variables) {
      const template = parsed.get(name)
      if (template === undefined) throw new PawlError('render-failed', `there is no template "${name}"`)
      return renderScript(engine, name, template, checkVariables(name, variables))
    },
  }
}

/** A misspelt file name would be a change that never takes effect. */
function checkFileNames(folders: readonly string[]): void {
  for (const folder of folders.filter((folder) => existsSync(folder))) {
    const stray = readdirSync(folder).find(
      (file) => /\.(ipxe|sh)$/.test(file) && !Object.hasOwn(templateVariables, file),
    )
    if (stray === undefined) continue
    throw new PawlError('render-failed', `${join(folder, stray)} is not the name of a template`, {
      hint: `the templates are: ${templateNames.join(', ')}`,
    })
  }
}

function loadOne(engine: Liquid, folders: readonly string[], name: TemplateName): Template[] {
  const file = folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
  if (file === undefined)
    throw new PawlError('render-failed', `template ${name} is in none of: ${folders.join(', ')}`)
  const text = read(file)
  const template = explained(file, () => engine.parse(text))
  const known = Object.keys(templateVariables[name])
  const unknown = engine.globalVariablesSync(template).find((used) => !known.includes(used))
  if (unknown !== undefined) {
    throw new PawlError('render-failed', `template ${file} uses "${unknown}", which it is not given`, {
      hint: `it may use: ${known.join(', ')}`,
    })
  }
  const examples = exampleVariables(name)
  // There are thousands, which took a third of the start. Our own templates are tried with each by a test.
  const isOurs = file === join(folders.at(-1) ?? '', name)
  for (const values of isOurs ? [...examples.slice(0, 1), ...examples.slice(-1)] : examples)
    tryOut(engine, file, template, name, values)
  return template
}

/** Finds what parsing does not: an unknown field of a list's entry, a first line that is not `#!ipxe`, other characters. */
function tryOut(
  engine: Liquid,
  file: string,
  template: Template[],
  name: TemplateName,
  values: Record<string, unknown>,
): void {
  renderScript(engine, file, template, checkVariables(name, values))
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new PawlError('render-failed', `template ${file} cannot be read`, { cause: error })
  }
}
