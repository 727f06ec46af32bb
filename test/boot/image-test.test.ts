import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { eventsOf, startSite } from './helpers/site.ts'

/** The gate before a channel: a candidate boots in a machine of its own, and what is written down is what happened. */
const pawl = join(import.meta.dirname, '../../bin/pawl')
const site = await startSite()
t.teardown(() => site.stop())

t.test('a candidate that boots passes its test, and the channel takes it', async (t) => {
  await site.pawl('channel', 'protect', 'pawl-stage3/tested', '--require-test')
  await t.rejects(
    site.pawl('channel', 'set', 'pawl-stage3/tested', '1'),
    /takes tested versions only, and pawl-stage3@1 has no test/,
  )
  const passed = await site.pawl('image', 'test', 'pawl-stage3@1')
  t.match(passed, { passed: true, detail: { failure: null, as: 'stage3', with: 'pawl-stage2@1' } })
  t.same(
    passed.detail.stages.map((one: { stage: string }) => one.stage),
    ['stage1', 'stage2', 'stage3', 'join', 'report'],
  )
  t.comment(`the test boot took ${passed.detail.seconds} s`)
  t.match(await site.pawl('channel', 'set', 'pawl-stage3/tested', '1'), { version: '1', changed: true })
})

t.test('one that does not boot fails it, with its own words, and the channel stays', async (t) => {
  const { kernel, initramfs } = site.artifacts.stage3
  const filesystem = join(site.dataDir, 'not-a-filesystem')
  await writeFile(filesystem, randomBytes(1_000_000))
  const files = ['--kernel', kernel, '--initramfs', initramfs, '--filesystem', filesystem]
  await site.pawl('image', 'publish', 'pawl-stage3@bad', ...files)
  await t.rejects(
    site.pawl('image', 'test', 'pawl-stage3@bad'),
    /pawl-stage3@bad failed its test: .*filesystem/,
  )
  const [last] = (await eventsOf(site, '--kind', 'image-tested')).slice(-1)
  t.match(last?.detail, { image: 'pawl-stage3@bad', passed: false })
  await t.rejects(
    site.pawl('channel', 'set', 'pawl-stage3/tested', 'bad'),
    /takes tested versions only, and pawl-stage3@bad failed its last one/,
  )
  const history = await site.pawl('channel', 'history', 'pawl-stage3/tested')
  t.match(history, { version: '1', moves: { length: 1 } })
})

t.test('ended from outside it leaves nothing behind', async (t) => {
  const temporary = await mkdtemp(join(tmpdir(), 'pawl-gate-'))
  t.teardown(() => rm(temporary, { recursive: true, force: true }))
  const argv = ['image', 'test', 'pawl-stage3@1', '--data', site.dataDir]
  const child = spawn(pawl, argv, {
    env: { ...process.env, TMPDIR: temporary },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  for await (const line of createInterface(child.stderr)) if (line.startsWith('Pawl: node test')) break
  const files = await readdir(temporary)
  t.same(
    files.map((name) => name.replace(/[^-]+$/, '')).sort(),
    ['pawl-scratch-', 'pawl-test-'],
    'a server and a machine are there',
  )
  child.stderr.resume()
  child.kill('SIGTERM')
  const [code] = await once(child, 'close')
  t.equal(code, 143)
  t.same(await readdir(temporary), [])
  const machines = execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).split('\n')
  t.same(
    machines.filter((line) => line.includes(temporary)),
    [],
    'no emulator runs',
  )
})
