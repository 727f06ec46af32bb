/** `npm run docs`: writes the parts of the docs that the code decides. The docs test compares the same parts. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ruleRefusals } from '../src/domain/auto-approval.ts'
import { eventKinds } from '../src/domain/event.ts'
import { manifestSchema } from '../src/domain/image.ts'
import { refusalCauses } from '../src/domain/refusal.ts'
import { nodeTransitions, reinstallTransitions, sessionTransitions } from '../src/domain/state.ts'
import { errorCodes } from '../src/errors.ts'
import { publishedPath, publishedText } from './openapi.ts'

type Words = Readonly<Record<string, string>>

function diagram(table: Readonly<Record<string, Words>>): string {
  const arrows = Object.entries(table).flatMap(([from, row]) =>
    Object.entries(row).map(([event, to]) => `    ${from} --> ${to}: ${event}`),
  )
  return ['```mermaid', 'stateDiagram-v2', ...arrows, '```'].join('\n')
}

function list(rows: Words, head: string): string {
  const lines = Object.entries(rows).map(([name, words]) => `| \`${name}\` | ${words} |`)
  return [`| ${head} | |`, '|---|---|', ...lines].join('\n')
}

/** A JSON Schema of an object, a property a line. */
function jsonSchema(schema: { required: readonly string[]; properties: object }): string {
  const lines = Object.entries(schema.properties).map(
    ([name, value]) => `    "${name}": ${JSON.stringify(value)}`,
  )
  const head = `{ "type": "object", "additionalProperties": false,\n  "required": ${JSON.stringify(schema.required)},`
  return ['```json', head, '  "properties": {', lines.join(',\n'), '  } }', '```'].join('\n')
}

/** Each generated part: its document, the mark before it, its text. */
export const generated: readonly { readonly file: string; readonly part: string; readonly text: string }[] = [
  { file: 'docs/boot-lifecycle.md', part: 'states:session', text: diagram(sessionTransitions) },
  { file: 'docs/boot-lifecycle.md', part: 'states:node', text: diagram(nodeTransitions) },
  { file: 'docs/boot-lifecycle.md', part: 'states:reinstall', text: diagram(reinstallTransitions) },
  { file: 'docs/boot-lifecycle.md', part: 'refusals', text: list(refusalCauses, 'cause') },
  { file: 'docs/operations.md', part: 'rules', text: list(ruleRefusals, 'why') },
  { file: 'docs/errors.md', part: 'codes', text: list(errorCodes, 'code') },
  { file: 'docs/images.md', part: 'manifest', text: jsonSchema(manifestSchema) },
  { file: 'docs/errors.md', part: 'events', text: list(eventKinds, 'event') },
]

/** Where a part stands in its document: between its mark and the next end. */
export function placeOf(part: string): RegExp {
  return new RegExp(`(<!-- ${part} -->\n\n)([\\s\\S]*?)\n*(<!-- end -->)`)
}

if (process.argv[1] === import.meta.filename) {
  writeFileSync(publishedPath, await publishedText())
  for (const { file, part, text } of generated) {
    const path = join(import.meta.dirname, '..', file)
    const before = readFileSync(path, 'utf8')
    writeFileSync(
      path,
      before.replace(placeOf(part), (_all, begin, _old, end) => `${begin}${text}\n\n${end}`),
    )
  }
}
