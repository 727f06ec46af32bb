import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Command } from 'commander'
import t from 'tap'
import { generated, placeOf } from '../.ci/docs.ts'
import type { Context } from '../src/cli/context.ts'
import type { Io } from '../src/cli/io.ts'
import { buildProgram } from '../src/cli/program.ts'

/** What the docs say that the code says too. Each part is generated here and must stand in its document, word for word. */
const root = join(import.meta.dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

t.test('tables and diagrams in the docs are those of the code', async (t) => {
  for (const { file, part, text } of generated) {
    t.equal(placeOf(part).exec(read(file))?.[2], text, `${file}, ${part}: npm run docs mends it`)
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

t.test('every pawl command that is written down exists, with its flags', async (t) => {
  const program = await buildProgram(
    { columns: 80, argv: [] as readonly string[] } as Io,
    () => ({}) as Context,
    '0',
  )
  const files = execFileSync('git', ['ls-files', '*.md', 'deploy'], { cwd: root, encoding: 'utf8' })
    .trim()
    .split('\n')
  let seen = 0
  for (const file of files.filter((name) => name !== 'docs/cli.md' && name !== 'CHANGELOG.md')) {
    for (const line of commandsIn(read(file))) {
      const { command, fault } = follow(program, line)
      t.equal(fault, undefined, `${file}: pawl ${line}`)
      if (command !== program) seen += 1
    }
  }
  t.ok(seen > 40, `${seen} commands`)
})

/** What follows `pawl` in shell blocks, in back quotes and in CI jobs, lines that go on joined. */
function commandsIn(text: string): string[] {
  const joined = text.replace(/\\\n\s*/g, ' ').replace(/\n\s+(?=--)/g, ' ')
  return [...joined.matchAll(/(?:^\s*(?:- |run: )?|`|: |&& )(?:bin\/)?pawl ([a-z][^`\n]*)/gm)].map(
    ([, line = '']) => line.split(/ #|[`;|&]/)[0] ?? '',
  )
}

/** Walks down the commands a line names, then looks for its flags. */
function follow(program: Command, line: string): { command: Command; fault: string | undefined } {
  const words = line.replace(/"[^"]*"|'[^']*'/g, 'X').split(/\s+/)
  let command = program
  for (const word of words) {
    const next = command.commands.find((child) => child.name() === word)
    if (next === undefined) break
    command = next
  }
  // A group without a word behind it is the command that runs then: commander keeps its name where nothing public tells it.
  const { _defaultCommandName: usual } = command as unknown as { _defaultCommandName?: string | null }
  const meant = command.commands.find((child) => child.name() === usual) ?? command
  const known = [...meant.options, ...program.options].flatMap(({ long }) => long ?? [])
  const flags = words.flatMap((word) => /^\[?(--[a-z-]+)/.exec(word)?.[1] ?? [])
  const unknown = flags.find((flag) => !known.includes(flag))
  if (unknown !== undefined) return { command, fault: `no ${unknown}` }
  const [first = ''] = words
  return { command, fault: command === program && /^[a-z]+$/.test(first) ? `no command ${first}` : undefined }
}

t.test('links between documents lead somewhere', async (t) => {
  const files = execFileSync('git', ['ls-files', '*.md'], { cwd: root, encoding: 'utf8' }).trim().split('\n')
  for (const file of files) {
    for (const [, target = ''] of read(file).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#[^)]*)?\)/g)) {
      if (target !== '') t.ok(existsSync(join(root, dirname(file), target)), `${file}: ${target}`)
    }
  }
})
