import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { generated, placeOf } from '../.ci/docs.ts'

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

t.test('links between documents lead somewhere', async (t) => {
  const files = execFileSync('git', ['ls-files', '*.md'], { cwd: root, encoding: 'utf8' }).trim().split('\n')
  for (const file of files) {
    for (const [, target = ''] of read(file).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#[^)]*)?\)/g)) {
      if (target !== '') t.ok(existsSync(join(root, dirname(file), target)), `${file}: ${target}`)
    }
  }
})
