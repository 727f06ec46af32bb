import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { eventKinds } from '../src/domain/event.ts'
import { refusalCauses } from '../src/domain/refusal.ts'
import { nodeTransitions, reinstallTransitions, sessionTransitions } from '../src/domain/state.ts'
import { errorCodes } from '../src/errors.ts'

/** What the docs say that the code says too. Each part is generated here and must stand in its document, word for word. */
const root = join(import.meta.dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

function diagram(table: Readonly<Record<string, Readonly<Record<string, string>>>>): string {
  const arrows = Object.entries(table).flatMap(([from, row]) => Object.entries(row).map(([event, to]) => `    ${from} --> ${to}: ${event}`))
  return ['```mermaid', 'stateDiagram-v2', ...arrows, '```'].join('\n')
}

function list(rows: Readonly<Record<string, string>>, head: string): string {
  return [`| ${head} | |`, '|---|---|', ...Object.entries(rows).map(([name, words]) => `| \`${name}\` | ${words} |`)].join('\n')
}

const generated: [file: string, part: string, text: string][] = [
  ['docs/boot-lifecycle.md', 'states:session', diagram(sessionTransitions)],
  ['docs/boot-lifecycle.md', 'states:node', diagram(nodeTransitions)],
  ['docs/boot-lifecycle.md', 'states:reinstall', diagram(reinstallTransitions)],
  ['docs/boot-lifecycle.md', 'refusals', list(refusalCauses, 'cause')],
  ['docs/errors.md', 'codes', list(errorCodes, 'code')],
  ['docs/errors.md', 'events', list(eventKinds, 'event')],
]

t.test('tables and diagrams in the docs are those of the code', async (t) => {
  for (const [file, part, text] of generated) {
    const [, found] = new RegExp(`<!-- ${part} -->\n\n([\\s\\S]*?)\n\n<!-- end -->`).exec(read(file)) ?? []
    t.equal(found, text, `${file}, ${part}: to mend it, paste this text between the marks`)
  }
})

t.test('each promise of SECURITY.md names a test that exists', async (t) => {
  const promises = [...read('SECURITY.md').matchAll(/^\| (.+?) \| `(test\/[^`]+)`: (.+?) \|$/gm)]
  t.ok(promises.length >= 20, `${promises.length} promises`)
  for (const [, promise, file = '', name = ''] of promises) {
    const text = existsSync(join(root, file)) ? read(file) : ''
    t.ok(text.includes(name), `${promise}: ${file} has "${name}"`)
  }
})

t.test('links between documents lead somewhere', async (t) => {
  const files = execFileSync('git', ['ls-files', '*.md'], { cwd: root, encoding: 'utf8' }).trim().split('\n')
  for (const file of files) {
    for (const [, target = ''] of read(file).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#[^)]*)?\)/g)) {
      if (target !== '') t.ok(existsSync(join(root, dirname(file), target)), `${file}: ${target}`)
    }
  }
})
