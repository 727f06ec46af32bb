import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text as textOf } from 'node:stream/consumers'
import t from 'tap'
import { openApi } from '../../.ci/openapi.ts'
import { openInstallation, temporaryFolder } from '../cli/helpers/installation.ts'
import { openAt } from '../helpers/world.ts'

const root = join(import.meta.dirname, '../..')
const markdown = readFileSync(join(root, 'docs/api.md'), 'utf8')

/** Each example of docs/api.md with what it says comes back. */
const examples = [...markdown.matchAll(/```sh\n([\s\S]*?)```\n\n```json\n([\s\S]*?)```/g)].map(
  ([, shell = '', json = '']) => ({ shell, answers: documentsOf(json) }),
)

/** JSON documents one after the other. */
function documentsOf(text: string): unknown[] {
  const documents: unknown[] = []
  let open = ''
  for (const line of text.trim().split('\n')) {
    open += line
    try {
      documents.push(JSON.parse(open))
      open = ''
    } catch {} // it goes on in the next line
  }
  if (open !== '') throw new Error(`no JSON: ${open}`)
  return documents
}

/** What the example shows is there; `…` stands for anything. */
function shows(expected: unknown, actual: unknown): boolean {
  if (typeof expected === 'string' && expected.includes('…')) {
    const parts = expected.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    return typeof actual === 'string' && new RegExp(`^${parts.join('.*')}$`).test(actual)
  }
  if (typeof expected !== 'object' || expected === null) return expected === actual
  return Object.entries(expected).every(([key, value]) =>
    shows(value, (actual as Record<string, unknown>)?.[key]),
  )
}

const missing = spawnSync('curl', ['--version']).status === 0 ? undefined : 'curl is not installed'
const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : missing

await t.test(
  'every example of docs/api.md does what it says',
  absent === undefined ? {} : { skip: absent },
  async (t) => {
    t.equal(examples.length, [...markdown.matchAll(/```sh/g)].length, 'each has an answer')
    t.ok(examples.length >= 12)
    const folder = temporaryFolder(t)
    const pawl = await openInstallation(t, (options = {}) => openAt(t, join(folder, 'pawl.db'), options))
    // One shell, so that an example has what those before it made; their answers are told apart by a line.
    const script = examples.map(({ shell }) => `${shell}\nprintf '\\n=== %s\\n' $?\n`).join('')
    const env = {
      PATH: process.env.PATH,
      PAWL_URL: pawl.url,
      PAWL_TOKEN: pawl.token,
      PAWL_CA: join(pawl.dataDir, 'ca.crt'),
    }
    const child = spawn('/bin/bash', ['-u'], { cwd: folder, env })
    child.stdin.end(script)
    const [stdout, stderr] = await Promise.all([textOf(child.stdout), textOf(child.stderr)])
    t.equal(stderr, '')
    const answered = stdout.split(/\n=== (\d+)\n/)
    for (const [index, { shell, answers }] of examples.entries()) {
      const [name] = shell.trim().split('\n').slice(-1)
      t.equal(answered[2 * index + 1], '0', `${name} succeeds`)
      const actual = documentsOf((answered[2 * index] ?? '').replaceAll('}{', '}\n{'))
      t.equal(actual.length, answers.length, `${name}: ${actual.length} answers`)
      for (const [place, expected] of answers.entries())
        t.ok(
          shows(expected, actual[place]),
          `${JSON.stringify(expected)} is in ${JSON.stringify(actual[place]).slice(0, 500)}`,
        )
    }
  },
)

await t.test('the Terraform example names every field of a node, and is marked as untried', async (t) => {
  const text = readFileSync(join(root, 'deploy/terraform/main.tf'), 'utf8')
  t.match(text, /UNTRIED/)
  const { schemas } = (await openApi()).components as { schemas: Record<string, { properties: object }> }
  const fields = Object.keys(schemas.ChangedNode?.properties ?? {})
  t.ok(fields.length > 15)
  const body = (name: string): string =>
    new RegExp(`${name} = (?:jsonencode\\(\\{|\\[)([\\s\\S]*?)(?:\\}\\)|\\])`).exec(text)?.[1] ?? ''
  const sent = [...body('  data').matchAll(/(\w+) +=/g)].map(([, name]) => name)
  const ignored = [...body('ignore_changes_to').matchAll(/"(\w+)"/g)].map(([, name]) => name)
  t.strictSame([...sent, ...ignored].sort(), fields.sort(), 'a field that is in neither would be drift')
  const updated = [...body('update_data').matchAll(/(\w+) +=/g)].map(([, name]) => name ?? '')
  const changes = Object.keys(schemas.NodeChanges?.properties ?? {})
  t.ok(updated.length > 0 && updated.every((name) => changes.includes(name)), 'PATCH takes what is sent')
})
