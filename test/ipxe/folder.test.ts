import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { addIpxe, type IpxeEntry, ipxeFolder, listIpxe, readIpxe, removeIpxe } from '../../src/ipxe/folder.ts'
import { withFolderLock } from '../../src/pki/folder-lock.ts'

/** An empty data folder. */
function dataFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-ipxe-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return folder
}

const about = (name: string): Omit<IpxeEntry, 'size' | 'sha256'> => ({
  name,
  platform: 'efi',
  arch: 'x86_64',
  version: '2.0.0+dfsg-5',
  features: ['https', 'vlan'],
  trust: { kind: 'public' },
  source: 'Debian sid, ipxe 2.0.0+dfsg-5',
  addedAt: '2026-11-21T12:00:00.000Z',
})

t.test('refuses bytes that are not what was added, without taking the others along', async (t) => {
  const data = dataFolder(t)
  for (const name of ['changed.efi', 'gone.efi', 'link.efi', 'right.efi', 'shorter.efi'])
    addIpxe(data, about(name), Buffer.from('iPXE'))
  const file = (name: string): string => join(ipxeFolder(data), name)
  writeFileSync(file('changed.efi'), 'iPXX')
  writeFileSync(file('shorter.efi'), 'iPX')
  for (const name of ['gone.efi', 'link.efi']) rmSync(file(name))
  symlinkSync(file('right.efi'), file('link.efi'))
  const { binaries, faults } = await listIpxe(data)
  t.same(
    binaries.map(({ name }) => name),
    ['right.efi'],
  )
  t.same(faults, [
    { name: 'changed.efi', message: `${file('changed.efi')} is not what was added` },
    { name: 'gone.efi', message: `${file('gone.efi')} is not there` },
    { name: 'link.efi', message: `${file('link.efi')} is a link, which is not followed` },
    { name: 'shorter.efi', message: `${file('shorter.efi')} is not what was added` },
  ])
  const [right] = binaries
  t.ok(right)
  if (right === undefined) return
  t.equal((await readIpxe(right)).toString(), 'iPXE')
  writeFileSync(right.path, 'later')
  await t.rejects(readIpxe(right), { code: 'digest-mismatch' }, 'changed after it was listed')
})

t.test('a folder in the place of a binary is not read', async (t) => {
  const data = dataFolder(t)
  const { path } = addIpxe(data, about('a.efi'), Buffer.from('iPXE'))
  rmSync(path)
  mkdirSync(path)
  t.same((await listIpxe(data)).faults, [{ name: 'a.efi', message: `${path} is no plain file` }])
})

t.test('an index that is none of ours is refused by name', async (t) => {
  const entry = { ...about('a.efi'), size: 4, sha256: '0'.repeat(64) }
  const indexes = [
    '{',
    '[]',
    JSON.stringify({ version: 2, binaries: [] }),
    JSON.stringify({ version: 1, binaries: [{ ...entry, name: '../pki/root.key' }] }),
    JSON.stringify({ version: 1, binaries: [{ ...entry, name: 'index.json' }] }),
    JSON.stringify({ version: 1, binaries: [{ ...entry, size: 2 ** 30 }] }),
    JSON.stringify({ version: 1, binaries: [{ ...entry, more: 1 }] }),
  ]
  for (const text of indexes) {
    const data = dataFolder(t)
    mkdirSync(ipxeFolder(data))
    writeFileSync(join(ipxeFolder(data), 'index.json'), text)
    await t.rejects(listIpxe(data), { code: 'invalid' }, text)
  }
})

t.test('adds, replaces and removes by name', async (t) => {
  const data = dataFolder(t)
  t.same(await listIpxe(data), { binaries: [], faults: [] }, 'nothing was ever added')
  addIpxe(data, about('b.efi'), Buffer.from('one'))
  addIpxe(data, about('a.efi'), Buffer.from('two'))
  addIpxe(data, { ...about('b.efi'), trust: { kind: 'unknown' } }, Buffer.from('three'))
  const { binaries } = await listIpxe(data)
  t.same(
    binaries.map(({ name, size, trust }) => ({ name, size, trust })),
    [
      { name: 'a.efi', size: 3, trust: { kind: 'public' } },
      { name: 'b.efi', size: 5, trust: { kind: 'unknown' } },
    ],
  )
  t.equal(readFileSync(join(ipxeFolder(data), 'b.efi'), 'utf8'), 'three')
  await removeIpxe(data, 'a.efi')
  await t.rejects(removeIpxe(data, 'a.efi'), { code: 'not-found' })
  t.equal((await listIpxe(data)).binaries.length, 1)
})

t.test('commands at once do not undo each other', async (t) => {
  const data = dataFolder(t)
  const children = ['a', 'b', 'c', 'd'].map((prefix) =>
    spawn(process.execPath, [join(import.meta.dirname, 'add-child.ts'), data, prefix], { stdio: 'inherit' }),
  )
  for (const [code] of await Promise.all(children.map((child) => once(child, 'exit')))) t.equal(code, 0)
  const { binaries, faults } = await listIpxe(data)
  t.equal(binaries.length, 40)
  t.same(faults, [])
  t.same(
    readdirSync(ipxeFolder(data)).filter((name) => name.startsWith('.')),
    [],
    'no lock is left',
  )
})

t.test('a lock', async (t) => {
  await t.test('of a command that runs is waited for, not for ever', async (t) => {
    const data = dataFolder(t)
    writeFileSync(join(data, '.lock'), `${process.pid} another\n`)
    const hint = new RegExp(`remove ${join(data, '.lock')}`)
    t.throws(() => withFolderLock(data, () => t.fail('ran'), 2), { code: 'conflict', hint })
    t.ok(existsSync(join(data, '.lock')), 'and is not taken from it')
  })

  await t.test('of a command that was killed is taken over', async (t) => {
    const data = dataFolder(t)
    const child = spawn('true')
    await once(child, 'exit')
    for (const left of [`${child.pid} x\n`, 'nonsense', '']) {
      writeFileSync(join(data, '.lock'), left)
      t.equal(
        withFolderLock(data, () => 'done'),
        'done',
      )
      t.same(readdirSync(data), [])
    }
  })

  await t.test('ends with what fails under it', async (t) => {
    const data = dataFolder(t)
    t.throws(() =>
      withFolderLock(data, () => {
        throw new Error('no')
      }),
    )
    t.same(readdirSync(data), [])
  })
})

t.test('what the index cannot hold is refused, and takes nothing along', async (t) => {
  const data = dataFolder(t)
  addIpxe(data, about('a.efi'), Buffer.from('iPXE'))
  const cannot: Parameters<typeof addIpxe>[1][] = [
    about(`${'a'.repeat(58)}-trusting.efi`),
    about('../a.efi'),
    { ...about('b.efi'), version: '1'.repeat(101) },
  ]
  for (const entry of cannot) t.throws(() => addIpxe(data, entry, Buffer.from('iPXE')), { code: 'invalid' })
  for (let number = 1; number < 200; number += 1) addIpxe(data, about(`${number}.efi`), Buffer.from('iPXE'))
  t.throws(() => addIpxe(data, about('more.efi'), Buffer.from('iPXE')), {
    code: 'invalid',
    hint: /200 binaries/,
  })
  t.equal((await listIpxe(data)).binaries.length, 200)
  t.same(
    readdirSync(ipxeFolder(data)).filter((name) => name.includes('more') || name.includes('trusting')),
    [],
  )
})
