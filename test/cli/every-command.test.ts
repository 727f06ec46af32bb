import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import type { Command } from 'commander'
import t from 'tap'
import { examplesOf } from '../../src/cli/examples.ts'
import { buildProgram } from '../../src/cli/program.ts'
import { type ErrorCode, errorCodes } from '../../src/errors.ts'
import { startReceiver } from '../helpers/receiver.ts'
import { forEachDatabase } from '../helpers/world.ts'
import { makeFleet } from './helpers/fleet.ts'
import { openInstallation, run, temporaryFolder } from './helpers/installation.ts'

function program(): Promise<Command> {
  const [stdout, stderr, stdin] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const io = {
    argv: [],
    env: {},
    stdin,
    stdout,
    stderr,
    now: () => new Date(0),
    isTTY: { stdout: false, stderr: false },
  }
  return buildProgram(io, () => ({}) as never, '0') // no command is run
}

interface Leaf {
  readonly path: string
  readonly command: Command
}

function leavesOf(command: Command, path: readonly string[] = []): Leaf[] {
  if (command.commands.length === 0) return [{ path: path.join(' '), command }]
  return command.commands.flatMap((child) => leavesOf(child, [...path, child.name()]))
}

/** Words as a shell reads them. */
function words(line: string): string[] {
  const found = line.match(/(?:[^\s'"]|'[^']*'|"[^"]*")+/g) ?? []
  return found.map((word) => word.replace(/'([^']*)'|"([^"]*)"/g, '$1$2'))
}

/** The pawl commands in a line for a shell: what stands around them is the shell's. */
function commandsIn(example: string): string[] {
  const line = example.replace(/\\\n\s*/g, ' ')
  return [...line.matchAll(/(?:^(?:[A-Z_]+=\S+ )*|[|(]\s*|&& )pawl ([^|&<>)]*)/g)].map(([, one = '']) => one)
}

/** Which command a line is, or why it is none. */
async function commandOf(line: string): Promise<string> {
  const parsed = await program()
  let ran = ''
  for (const leaf of leavesOf(parsed)) {
    leaf.command.exitOverride().action(() => {
      ran = leaf.path
    })
  }
  return parsed.parseAsync(words(line), { from: 'user' }).then(() => ran, String)
}

await t.test('every command has examples, and each of them is one that it takes', async (t) => {
  const paths = leavesOf(await program()).map(({ path }) => path)
  for (const { path, command } of leavesOf(await program())) {
    const meant: string[] = []
    for (const example of examplesOf(command)) {
      const found = await Promise.all(commandsIn(example).map(commandOf))
      for (const one of found) t.ok(paths.includes(one), `${example}: ${one}`)
      meant.push(...found)
    }
    t.ok(meant.includes(path), `${path} has an example`)
  }
})

const mlab1 = 'mlab1-lga0t.measurement-lab.example.org'
const worker = 'measurement-worker'

/** A line for each command, in an order in which each can be done. `$X` is what the step before learnt. */
const lines: readonly string[] = [
  'completion bash',
  'complete nodes mlab1',
  'whoami',
  'status',
  'root show',
  'node add mlab8 --mac 52:54:00:00:00:08',
  'node set mlab8 --label rack=r8',
  'node disable mlab8',
  'node enable mlab8',
  'node list',
  `node show ${mlab1}`,
  `node timeline ${mlab1}`,
  `node logs ${mlab1}`,
  `node reinstall ${mlab1} --max-parallel 1`,
  'reinstall list',
  'node secret mlab8',
  'node certificate issue mlab8 --out $TMP/mlab8.pem',
  'node certificate list mlab8',
  'node certificate revoke mlab8 $FINGERPRINT',
  `node known-hosts ${mlab1}`,
  'node pending',
  'node approve $CODE --name mlab7 --profile demo',
  'node reject $CODE',
  'node auto-approve create --name rack9 --source 2001:db8::/32 --serial A1 --profile demo --node-name rack9-{serial} --limit 1 --for 2h',
  'node auto-approve list',
  'node auto-approve show rack9',
  'node auto-approve revoke rack9',
  'node auto-approve remove rack9',
  'node remove mlab8',
  'image list',
  `image show ${worker}@2026.11.0`,
  'image prune --keep 1 --older-than 1m',
  `image export ${worker}@2026.11.0 --out $TMP/export`,
  'publisher create mine --key $TMP/mine.key --cert $TMP/mine.crt',
  'publisher list',
  'publisher show mine',
  'publisher revoke mine',
  'profile apply -f $TMP/profile.yaml',
  'profile list',
  'profile show spare',
  'diff -f $TMP/fleet.yaml',
  'apply -f $TMP/fleet.yaml --yes',
  'export',
  'event list',
  'event verify',
  'event checkpoint',
  'event keys',
  'identity keys',
  'identity rotate',
  `identity show ${mlab1}`,
  `channel set ${worker}/beta 2026.11.0`,
  `channel set ${worker}/beta 2026.10.3`,
  `channel rollback ${worker}/beta`,
  'channel list',
  `channel history ${worker}/stable`,
  `channel protect ${worker}/beta --no-two-person`,
  `rollout status ${worker}/stable`,
  'rollout list',
  `rollout pause ${worker}/stable`,
  `rollout resume ${worker}/stable`,
  `rollout abort ${worker}/stable`,
  `rollout start ${worker}/stable 2026.11.0 --waves 1,100%`,
  'proposal list',
  'proposal show $PROPOSAL',
  'proposal reject $PROPOSAL',
  'extension apply -f $TMP/extension.yaml',
  'extension list',
  'extension show allocate_k8s_token',
  'extension keys',
  'extension rotate-key',
  'extension remove allocate_k8s_token',
  'webhook create --name extra --url https://hooks.example.com/ --kind refused',
  'webhook set extra --node mlab*',
  'webhook list',
  'webhook show extra',
  'webhook disable extra',
  'webhook enable extra',
  'webhook rotate-secret extra',
  'webhook deliveries tickets',
  'webhook redeliver --dead tickets',
  'webhook remove extra',
  'operator token create --name bob --role viewer',
  'operator token list',
  'operator token revoke $ID',
  'storm clean',
  'operator session list',
  'operator person list',
  'operator certificate list',
  'context list',
]

/** Commands that cannot be shown to do their work here, and the test that does. */
const elsewhere: Readonly<Record<string, string>> = {
  init: 'test/cli/scenarios/12-init-server.txt',
  server: 'test/cli/program.test.ts',
  backup: 'test/backup',
  restore: 'test/backup',
  'ipxe fetch': 'test/ipxe/binaries.test.ts',
  'ipxe add': 'test/cli/scenarios/27-media.txt',
  'ipxe list': 'test/cli/scenarios/27-media.txt',
  'ipxe trust': 'test/cli/scenarios/27-media.txt',
  'ipxe remove': 'test/cli/scenarios/27-media.txt',
  'media build': 'test/cli/scenarios/27-media.txt',
  'doctor check': 'src/doctor',
  'doctor boot': 'test/doctor/boot.test.ts',
  'database downgrade': 'test/backup',
  'database move': 'test/replicas',
  'dhcp config': 'test/cli/scenarios/30-dhcp.txt',
  'root rotate': 'test/root-rotation.test.ts',
  'root cut-over': 'test/root-rotation.test.ts',
  'node drain-and-reinstall': 'test/cli/scenarios/34-leaving.txt',
  'node arm': 'test/cli/scenarios/03-nodes.txt',
  'node watch': 'test/cli',
  'node accept-facts': 'test/cli/scenarios/22-auto-approve.txt',
  'reinstall show': 'test/cli/scenarios/24-reinstalls.txt',
  'reinstall pause': 'test/cli/scenarios/24-reinstalls.txt',
  'reinstall resume': 'test/cli/scenarios/24-reinstalls.txt',
  'reinstall cancel': 'test/cli/scenarios/24-reinstalls.txt',
  'image publish': 'test/cli/signing.test.ts',
  'image sign': 'test/cli/signing.test.ts',
  'image verify': 'test/cli/signing.test.ts',
  'image test': 'test/boot/image-test.test.ts',
  'publisher add': 'test/cli/signing.test.ts',
  'import epoxy': 'test/cli',
  'import matchbox': 'test/cli',
  'import csv': 'test/cli',
  'event export': 'test/cli',
  'storm run': 'test/storm',
  'proposal approve': 'test/cli/scenarios/14-channels.txt',
  'webhook test': 'test/fleet/webhooks.test.ts',
  'operator session revoke': 'test/cli',
  'operator person remove': 'test/cli',
  'operator certificate create': 'test/cli',
  'operator certificate revoke': 'test/cli',
  login: 'test/cli',
  logout: 'test/cli',
  'context use': 'test/cli',
}

const profileFile = `name: spare
evidence: [secret]
boot: {stage2: small@1, stage3: ${worker}@2026.11.0, join: {kind: none}}
`

await forEachDatabase(t, async (t, openWorld) => {
  if (t.name === 'on PostgreSQL') {
    t.pass('the command line does not see which database it is')
    return
  }
  await t.test('every command answers --json with one document, in ASCII', async (t) => {
    const installation = await openInstallation(t, openWorld)
    await makeFleet(installation)
    const folder = temporaryFolder(t)
    writeFileSync(join(folder, 'profile.yaml'), profileFile)
    writeFileSync(
      join(folder, 'extension.yaml'),
      'operation: allocate_k8s_token\nurl: https://tokens.example.com/v2/allocate_k8s_token\n',
    )
    writeFileSync(join(folder, 'fleet.yaml'), 'kind: Node\nname: mlab6\nlabels: {site: ams04}\n')
    const learnt = new Map([['$TMP', folder]])
    const pending = await installation.run(['complete', 'pending'])
    const codes = pending.stdout.trim().split('\n')
    const proposals = await installation.run(['complete', 'proposals'])
    learnt.set('$PROPOSAL', proposals.stdout.trim().split('\n')[0] ?? '')
    const leaves = leavesOf(await program()).map(({ path }) => path)
    const seen = new Set<string>()
    for (const line of lines) {
      if (line.includes('$CODE')) learnt.set('$CODE', codes.shift() ?? '')
      const text = [...learnt].reduce((all, [name, value]) => all.replaceAll(name, value), line)
      const env = { XDG_CONFIG_HOME: folder, HOME: folder }
      const { exit, stdout, stderr } = await installation.run([...text.split(' '), '--json'], { env })
      t.equal(exit, 0, `${line}: ${stderr}`)
      t.match(stdout, /^[\n -~]*$/, `${line}: ASCII`)
      try {
        const { id, fingerprint } = JSON.parse(stdout) as { id?: unknown; fingerprint?: unknown }
        if (typeof id === 'string') learnt.set('$ID', id)
        if (typeof fingerprint === 'string') learnt.set('$FINGERPRINT', fingerprint)
      } catch {
        t.fail(`${line} is not one document: ${stdout.slice(0, 300)}`)
      }
      seen.add(leaves.find((path) => line === path || line.startsWith(`${path} `)) ?? line)
    }
    for (const path of leaves) {
      const place = elsewhere[path]
      t.ok(seen.has(path) !== (place !== undefined), `${path} is run here, or said to be elsewhere`)
      if (place !== undefined) t.ok(existsSync(join(import.meta.dirname, '../..', place)), place)
    }
  })

  await t.test('what begins with a dash is a flag, unless it stands behind --', async (t) => {
    const installation = await openInstallation(t, openWorld)
    for (const [line, exit, fault] of [
      ['node show -x', 2, "error: unknown option '-x'"],
      ['node show -- -x', 2, 'error: node name "-x" is not a host name'],
      ['node add -- --json', 2, 'error: node name "--json" is not a host name'],
      ['node list --json --state -1', 2, "error: option '--state <S>' argument '-1' is invalid"],
      ['webhook redeliver -- -msg', 2, 'error: "-msg" is not the id of a delivery'],
      ['event list --since -1h', 2, 'error: --since "-1h" is not a time'],
      ['node list --', 0, ''],
      ['--', 2, 'Usage: pawl'],
      ['-', 2, "error: unknown command '-'"],
      ['node list --no-such', 2, "error: unknown option '--no-such'"],
      ['node show', 2, "error: missing required argument 'name'"],
      ['node list extra', 2, 'error: too many arguments'],
      ['node frobnicate', 2, "error: unknown command 'frobnicate'"],
      ['', 2, 'Usage: pawl'],
      ['node', 2, 'Usage: pawl node'],
      ['--version', 0, ''],
      ['help node', 0, ''],
      ['node list --help', 0, ''],
    ] as const) {
      const ran = await installation.run(line.split(' ').filter((word) => word !== ''))
      t.equal(ran.exit, exit, line)
      t.ok(ran.stderr.includes(fault), `${line}: ${ran.stderr}`)
    }
  })
})

/** The exit code of each error; a Record, so that none is left out. */
const exits: Readonly<Record<ErrorCode, 1 | 2>> = {
  ...(Object.fromEntries(Object.keys(errorCodes).map((code) => [code, 1])) as Record<ErrorCode, 1>),
  usage: 2,
}

await t.test('exit codes: 2 for wrong usage, 1 for every other error that a server tells', async (t) => {
  const server = await startReceiver(t)
  const ca = join(temporaryFolder(t), 'ca.crt')
  writeFileSync(ca, server.ca)
  const env = { PAWL_URL: server.url, PAWL_TOKEN: 'A'.repeat(44), PAWL_CA: ca, PAWL_DATA: '' }
  for (const code of Object.keys(errorCodes) as ErrorCode[]) {
    server.answer = () => ({
      status: 400,
      headers: { 'content-type': 'application/problem+json' },
      body: JSON.stringify({ status: 400, code, detail: `it is ${code}`, hint: 'do otherwise' }),
    })
    const { exit, stdout, stderr } = await run(['node', 'list'], { env })
    t.same(
      { exit, stdout, stderr },
      { exit: exits[code], stdout: '', stderr: `error: it is ${code}\nhint: do otherwise\n` },
    )
  }
})

await t.test('a client command loads nothing of the server, no schema, no YAML and no X.509', async (t) => {
  const root = join(import.meta.dirname, '../..')
  const reached = new Set<string>()
  const packages = new Set<string>()
  const visit = (file: string): void => {
    if (reached.has(file)) return
    reached.add(file)
    const code = readFileSync(file, 'utf8')
    for (const [, type, target = ''] of code.matchAll(
      /^(?:import|export)\s(type\s)?(?:[^'"`;=()]*?\sfrom\s)?'([^']+)'/gm,
    )) {
      if (type !== undefined) continue
      if (!target.startsWith('.')) packages.add(target)
      else if (target.endsWith('.ts')) visit(join(file, '..', target))
    }
    if (!file.endsWith('cli/commands.ts')) return
    for (const [, target = ''] of code.matchAll(/await import\('([^']+)'\)/g)) visit(join(file, '..', target))
  }
  visit(join(root, 'src/main.ts'))
  t.ok(reached.has(join(root, 'src/cli/commands/node.ts')), 'files that are loaded later are followed')
  t.same([...packages].filter((name) => !name.startsWith('node:')).sort(), ['commander', 'ipaddr.js'])
})
