/** `npm run docs`: writes the parts of the docs that the code decides. The docs test compares the same parts. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import { ruleRefusals } from '../src/domain/auto-approval.ts'
import { eventKinds } from '../src/domain/event.ts'
import { evidenceKinds } from '../src/domain/evidence.ts'
import { fleetFileSchema } from '../src/domain/fleet-file.ts'
import { manifestSchema } from '../src/domain/image.ts'
import { refusalCauses } from '../src/domain/refusal.ts'
import { nodeTransitions, reinstallTransitions, sessionTransitions } from '../src/domain/state.ts'
import { errorCodes } from '../src/errors.ts'
import type { OpenApiDocument } from '../src/http/openapi.ts'
import { type Metric, metricTables } from '../src/metrics/table.ts'
import { openApi, publishedPath, publishedText } from './openapi.ts'

const fleetSchemaPath = join(import.meta.dirname, '../docs/fleet.schema.json')

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

function kindsOfEvidence(): string {
  const lines = Object.entries(evidenceKinds).map(
    ([kind, { meaning, everyRedemption }]) =>
      `| \`${kind}\` | ${meaning} | ${everyRedemption ? 'yes' : 'no'} |`,
  )
  return ['| kind | what it proves | asked again at every redemption |', '|---|---|---|', ...lines].join('\n')
}

/** A JSON Schema of an object, a property a line. */
function jsonSchema(schema: { required: readonly string[]; properties: object }): string {
  const lines = Object.entries(schema.properties).map(
    ([name, value]) => `    "${name}": ${JSON.stringify(value)}`,
  )
  const head = `{ "type": "object", "additionalProperties": false,\n  "required": ${JSON.stringify(schema.required)},`
  return ['```json', head, '  "properties": {', lines.join(',\n'), '  } }', '```'].join('\n')
}

/** Every metric: a table for each place that it comes from. */
function metricsByPlace(): string {
  const rowOf = ([name, { type, help, labels = {} }]: [string, Metric]): string => {
    const words = Object.entries(labels).map(([label, values]) => `\`${label}\`: ${values}`)
    return `| \`${name}\` | ${type} | ${words.join('; ')} | ${help} |`
  }
  const parts = Object.entries(metricTables).map(([place, table]) =>
    [
      `### ${place}`,
      '',
      '| metric | type | labels | |',
      '|---|---|---|---|',
      ...Object.entries(table).map(rowOf),
    ].join('\n'),
  )
  return parts.join('\n\n')
}

/** Every alert that ships. */
function alerts(): string {
  const path = join(import.meta.dirname, '../deploy/prometheus/pawl-alerts.yml')
  const { groups } = parse(readFileSync(path, 'utf8')) as {
    groups: { rules: { alert: string; labels: { severity: string }; annotations: { action: string } }[] }[]
  }
  const rows = groups.flatMap(({ rules }) =>
    rules.map(
      ({ alert, labels, annotations }) => `| \`${alert}\` | ${labels.severity} | ${annotations.action} |`,
    ),
  )
  return ['| alert | | what to do |', '|---|---|---|', ...rows].join('\n')
}

/** Every operation of the API with the roles that may, from the document that the test of roles is held against. */
function apiRoles(document: OpenApiDocument): string {
  const roles = ['viewer', 'operator', 'publisher', 'admin']
  const lines = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { operationId, 'x-pawl-role': role }]) => {
      const needed = [role].flat()
      const may = (one: string): boolean =>
        needed.some((each) => each === 'anyone' || each === 'viewer' || each === one) || one === 'admin'
      const cells = roles.map((one) => (needed.includes('anyone') ? 'no sign-in' : may(one) ? 'yes' : ''))
      return `| \`${operationId}\` | \`${method.toUpperCase()} ${path}\` | ${cells.join(' | ')} |`
    }),
  )
  return [
    '| operation | | viewer | operator | publisher | admin |',
    '|---|---|---|---|---|---|',
    ...lines,
  ].join('\n')
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
  { file: 'docs/api.md', part: 'api-roles', text: apiRoles(await openApi()) },
  { file: 'docs/evidence.md', part: 'evidence', text: kindsOfEvidence() },
  { file: 'docs/metrics.md', part: 'metrics', text: metricsByPlace() },
  { file: 'docs/metrics.md', part: 'alerts', text: alerts() },
  { file: 'docs/errors.md', part: 'events', text: list(eventKinds, 'event') },
]

/** Where a part stands in its document: between its mark and the next end. */
export function placeOf(part: string): RegExp {
  return new RegExp(`(<!-- ${part} -->\n\n)([\\s\\S]*?)\n*(<!-- end -->)`)
}

if (process.argv[1] === import.meta.filename) {
  writeFileSync(publishedPath, await publishedText())
  writeFileSync(fleetSchemaPath, `${JSON.stringify(fleetFileSchema(), null, 2)}\n`)
  for (const { file, part, text } of generated) {
    const path = join(import.meta.dirname, '..', file)
    const before = readFileSync(path, 'utf8')
    writeFileSync(
      path,
      before.replace(placeOf(part), (_all, begin, _old, end) => `${begin}${text}\n\n${end}`),
    )
  }
}
