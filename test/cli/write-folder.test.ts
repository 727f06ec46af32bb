import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { writeFolder } from '../../src/cli/write-folder.ts'
import { temporaryFolder } from './helpers/installation.ts'

const pawl = join(import.meta.dirname, '../../bin/pawl')
const files = [
  { name: 'a.yaml', lines: ['one', 'two'] },
  { name: 'b.yaml', lines: ['three'] },
]

t.test('all files are there whole, or none', async (t) => {
  const folder = join(temporaryFolder(t), 'new', 'folder')
  t.equal(await writeFolder(folder, files), 2)
  t.same(readdirSync(folder).sort(), ['a.yaml', 'b.yaml'])
  t.equal(readFileSync(join(folder, 'a.yaml'), 'utf8'), 'one\ntwo\n')
  t.equal(await writeFolder(folder, files), 0, 'a second time writes nothing')
  const other = [
    { name: 'c.yaml', lines: ['new'] },
    { name: 'b.yaml', lines: ['other'] },
  ]
  await t.rejects(writeFolder(folder, other), {
    code: 'exists',
    message: /b\.yaml exists already, and is another/,
  })
  t.same(readdirSync(folder).sort(), ['a.yaml', 'b.yaml'])
})

t.test('a file that cannot have its name takes the others with it', async (t) => {
  const folder = temporaryFolder(t)
  mkdirSync(join(folder, 'deep'))
  const wrong = [...files, { name: 'gone/c.yaml', lines: [''] }]
  await t.rejects(writeFolder(join(folder, 'deep'), wrong), { code: 'invalid', hint: 'nothing was written' })
  t.same(readdirSync(join(folder, 'deep')), [])
  await t.rejects(writeFolder(join(folder, 'new'), wrong), { code: 'invalid' })
  t.notOk(existsSync(join(folder, 'new')), 'nor is a folder left that was made for them')
})

/** An inventory whose nodes are more than the schema that is written beside them. */
function inventory(folder: string): string {
  const file = join(folder, 'inventory.csv')
  const rows = Array.from({ length: 4000 }, (_, index) => `node${index},10.1.${index >> 8}.${index & 255}`)
  writeFileSync(file, `name,address\n${rows.join('\n')}\n`)
  return file
}

const mounts = spawnSync('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0

t.test(
  'a disk that is full in the middle',
  { skip: mounts ? false : 'no mount in a namespace of its own' },
  async (t) => {
    const folder = temporaryFolder(t)
    const line = `mount -t tmpfs -o size=96k none "$2" && mkdir "$2/kept" && touch "$2/kept/own" || exit 9
"$0" import csv "$1" --out "$2/fleet"; echo "= $?"; "$0" import csv "$1" --out "$2/kept"; echo "= $?"; find "$2" -type f`
    const disk = join(folder, 'disk')
    mkdirSync(disk)
    const ran = spawnSync('unshare', ['-rm', 'bash', '-c', line, pawl, inventory(folder), disk], {
      encoding: 'utf8',
    })
    t.equal(ran.stdout, `= 1\n= 1\n${disk}/kept/own\n`, 'nothing but what was there')
    t.match(ran.stderr, /error: there is no room left for .*fleet\nhint: nothing was written: free space/)
  },
)
