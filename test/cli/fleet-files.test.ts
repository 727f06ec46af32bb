import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { FileFaults, type LoadedFleet, loadFleet } from '../../src/cli/fleet-files.ts'
import { fleetFileSchema } from '../../src/domain/fleet-file.ts'
import { isPawlError } from '../../src/errors.ts'
import { startKubernetesApi } from '../helpers/kubernetes-api.ts'
import { forEachDatabase } from '../helpers/world.ts'
import { openInstallation, temporaryFolder } from './helpers/installation.ts'

const root = join(import.meta.dirname, '../..')

/** A folder with these files. */
function folderOf(t: Test, files: Readonly<Record<string, string | Buffer>>): string {
  const folder = temporaryFolder(t)
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), content)
  }
  return folder
}

const read = (files: readonly string[], env: Record<string, string> = {}, stdin = ''): Promise<LoadedFleet> =>
  loadFleet(files, { stdin: Readable.from([stdin]), env })

/** What is wrong with a file, each fault without the folder it is in. */
async function faultsIn(
  t: Test,
  content: string | Buffer,
  env: Record<string, string> = {},
): Promise<string[]> {
  const folder = folderOf(t, { 'a.yaml': content })
  try {
    await read([join(folder, 'a.yaml')], env)
    return []
  } catch (error) {
    const faults = error instanceof FileFaults ? error.faults : isPawlError(error) ? [error] : undefined
    if (faults === undefined) throw error
    return faults.map(({ message }) => message.replaceAll(`${folder}/`, ''))
  }
}

const kubeadm = (token: string): string =>
  `{kind: kubeadm, settings: {endpoint: "192.0.2.1:6443", token: ${token}, caCertHash: "sha256:${'a'.repeat(64)}"}}`

t.test('each fault of a file is told with its line, column and field', async (t) => {
  const table: [string, string | Buffer, string[]][] = [
    ['not UTF-8', Buffer.from([0x6b, 0xff, 0xfe]), ['a.yaml is not UTF-8']],
    ['a tab', 'kind: Node\n\tname: x\n', ['a.yaml:2:1: Tabs are not allowed as indentation']],
    ['two of a key', 'kind: Node\nname: a\nname: b\n', ['a.yaml:3:1: Map keys must be unique']],
    [
      'a tag',
      'kind: Node\nname: !!js/function x\n',
      ['a.yaml:2:7: Unresolved tag: tag:yaml.org,2002:js/function'],
    ],
    ['a list', '- kind: Node\n', ['a.yaml:1:1: a document must be a map']],
    [
      'no kind',
      'name: x\n',
      [
        'a.yaml:1:1: kind is missing: it must be "Node" or "Nodes" or "Profile" or "Channel" or "Join" or "Extension"',
      ],
    ],
    [
      'a prototype',
      'kind: Node\nname: x\n__proto__: {profile: y}\n',
      ['a.yaml:3:1: unknown field __proto__'],
    ],
    [
      'several at once, in two documents',
      'kind: Node\nname: 7\nmac: x\nlabels: {a: 1}\n---\nkind: Channel\nname: nothing\nversion: 1.10\n',
      [
        'a.yaml:3:1: unknown field mac',
        'a.yaml:2:1: name must be text',
        'a.yaml:4:10: labels.a must be text',
        'a.yaml:7:1: name must match pattern "^[^/]+/[^/]+$"',
        'a.yaml:8:1: version must be text',
      ],
    ],
    [
      'a join of no kind, and one with a setting too many',
      'kind: Profile\nname: p\nboot: {stage2: a@1, stage3: b@1, join: {kind: kubeadmin}}\n---\nkind: Join\nname: j\njoin: {kind: kubeadm, settings: {endpoint: "a:1", tokens: x}}\n',
      [
        'a.yaml:3:41: boot.join.kind must be "none" or "script" or "kubeadm" or "k3s" or "rke2" or "nomad" or "cloud-init" or "ignition" or "extension"',
        'a.yaml:7:51: unknown field join.settings.tokens',
      ],
    ],
    [
      'a secret where none is read',
      'kind: Profile\nname: p\nkernelArguments: {fromEnv: PAWL_TOKEN}\nboot: local\n',
      ['a.yaml:3:1: kernelArguments must be text'],
    ],
    [
      'an environment variable in what is no secret',
      `kind: Join\nname: j\njoin: {kind: kubeadm, settings: {endpoint: {fromEnv: PAWL_TOKEN}, token: "***", caCertHash: "sha256:${'a'.repeat(64)}"}}\n`,
      ['a.yaml:3:34: join.settings.endpoint must be text'],
    ],
    [
      'things that are there twice',
      'kind: Nodes\nnodes:\n  - {name: a, uuid: 11111111-2222-3333-4444-55555555555A}\n  - {name: a}\n  - {name: b, uuid: 11111111-2222-3333-4444-55555555555a}\n',
      [
        'a.yaml:4:5: node "a" is at a.yaml:3:5 too',
        'a.yaml:5:15: UUID 11111111-2222-3333-4444-55555555555a of node "b" is at a.yaml:3:15 too',
      ],
    ],
  ]
  for (const [what, content, expected] of table) t.same(await faultsIn(t, content), expected, what)
})

t.test('files made to harm are refused in time', async (t) => {
  const bomb = [
    'kind: Node',
    'name: x',
    'a: &a [1,1,1,1,1,1,1,1,1,1]',
    ...[...'bcdefghij'].map((c, n) => `${c}: &${c} [${Array(10).fill(`*${'abcdefghi'[n]}`).join(',')}]`),
  ].join('\n')
  t.same(await faultsIn(t, bomb), ['a.yaml:1:1: its aliases stand for more than a million values'])
  t.match(await faultsIn(t, 'kind: Node\nname: x\nlabels: &a {self: *a}\n'), [/alias|million|Unresolved/i])
  t.match(await faultsIn(t, `kind: ${'['.repeat(20_000)}`), [/nested too deeply$/])
  t.match(await faultsIn(t, Buffer.alloc(8 * 1024 * 1024 + 1, 0x20)), [/a.yaml is larger than 8 MiB/])
  const many = `kind: Nodes\nnodes:\n${'  - {name: 1}\n'.repeat(100)}`
  t.equal((await faultsIn(t, many)).length, 100, 'each is found; twenty of them are shown')
})

t.test('one anchor may be used by each of many nodes; BOM and CRLF are read', async (t) => {
  const nodes = Array.from({ length: 3000 }, (_, n) => `  - {name: n${n}, labels: *site}`).join('\r\n')
  const folder = folderOf(t, {
    'a.yaml': `\uFEFFkind: Nodes\r\ndefaults: {labels: &site {site: fra}}\r\nnodes:\r\n${nodes}\r\n`,
  })
  const { fleet, placeOf } = await read([folder])
  t.equal(fleet.nodes.length, 3000)
  t.same(fleet.nodes[2999], { name: 'n2999', labels: { site: 'fra' } })
  t.equal(placeOf('node', 'n2999', 'labels.site'), `${folder}/a.yaml:2:27`)
})

t.test('a folder is read whole and in order, without what is hidden', async (t) => {
  const node = (name: string): string => `kind: Node\nname: ${name}\n`
  const folder = folderOf(t, {
    'b/x.yml': node('x'),
    'a.yaml': node('a'),
    'notes.txt': 'no',
    '.git/y.yaml': node('hidden'),
    '.z.yaml': node('hidden2'),
    'empty.yaml': '# nothing\n---\n---\n',
  })
  symlinkSync('a.yaml', join(folder, 'again.yaml'))
  const wrong = await read([folder]).catch((error: unknown) => error)
  t.match(
    (wrong as FileFaults).faults[0]?.message,
    /node "a" is at .*a.yaml:1:1 too/,
    'a link is a file like another',
  )
  const { fleet, count } = await read(
    [join(folder, 'b'), join(folder, 'a.yaml'), join(folder, 'a.yaml'), '-'],
    {},
    node('in'),
  )
  t.same(
    fleet.nodes.map(({ name }) => name),
    ['x', 'a', 'in'],
  )
  t.equal(count, 3)
  t.match(await read(['-', '-']).catch((error: unknown) => error), { code: 'usage' })
})

t.test('secrets come from the environment or a file, and are in no fault', async (t) => {
  const join_ = (token: string): string =>
    `kind: Join\nname: j\njoin: ${kubeadm(token)}\n---\nkind: Profile\nname: p\nboot: {stage2: a@1, stage3: b@1, join: {from: j}}\n`
  const folder = folderOf(t, {
    'env.yaml': join_('{fromEnv: TOKEN}'),
    'file.yaml': join_('{fromFile: secrets/token}'),
    'kept.yaml': join_('"***"'),
    'clear.yaml': join_('abcdef.0123456789abcdef'),
    'secrets/token': 'abcdef.0123456789abcdef\nnot read\n',
  })
  const tokenIn = async (file: string): Promise<unknown> => {
    const { fleet } = await read([join(folder, file)], { TOKEN: 'abcdef.0123456789abcdef' })
    return (fleet.profiles[0] as { boot?: { join?: { settings?: { token?: string } } } }).boot?.join?.settings
      ?.token
  }
  t.equal(await tokenIn('env.yaml'), 'abcdef.0123456789abcdef')
  t.equal(await tokenIn('file.yaml'), 'abcdef.0123456789abcdef')
  t.equal(await tokenIn('kept.yaml'), '***')
  t.match((await read([join(folder, 'clear.yaml')])).warnings, [
    /clear.yaml:3:\d+: join.settings.token is in the file as it is/,
  ])
  t.same(await faultsIn(t, join_('{fromEnv: TOKEN}'), { TOKEN: 'hunter2' }), [
    'a.yaml:3:62: join.settings.token has not the form that it must have',
  ])
  t.match(await faultsIn(t, join_('{fromFile: nowhere}')), [
    /join.settings.token comes from nowhere, which cannot be read \(ENOENT\)/,
  ])
  t.match(await faultsIn(t, join_('{fromFile: /dev/zero}')), [/comes from \/dev\/zero, which is no file/])
})

t.test('secrets of hooks come from there too', async (t) => {
  const signing = `whsec_${Buffer.alloc(32, 3).toString('base64')}`
  const profile = (kubeconfig: string, secret: string): string =>
    `kind: Profile
name: p
boot: local
reinstall: {stage2: a@1, stage3: b@1}
leave: {kind: kubernetes, kubeconfig: ${kubeconfig}}
reboot: {kind: webhook, url: "https://x.example.test/", secret: ${secret}}
`
  const kubeconfig = 'apiVersion: v1\nkind: Config\n'
  const folder = folderOf(t, {
    'elsewhere.yaml': profile('{fromFile: secrets/leave.conf}', '{fromEnv: HOOK}'),
    'kept.yaml': profile('"***"', '"***"'),
    'join.yaml': profile('join', '{fromFile: secrets/hook}'),
    'clear.yaml': profile('text', signing),
    'secrets/leave.conf': kubeconfig,
    'secrets/hook': `${signing}\nnot read\n`,
  })
  const hooksIn = async (file: string): Promise<unknown[]> => {
    const { fleet, warnings } = await read([join(folder, file)], { HOOK: signing })
    const { leave, reboot } = fleet.profiles[0] as {
      leave?: { kubeconfig: string }
      reboot?: { secret: string }
    }
    return [leave?.kubeconfig, reboot?.secret, warnings.map((text) => text.replaceAll(`${folder}/`, ''))]
  }
  t.same(await hooksIn('elsewhere.yaml'), [kubeconfig, signing, []])
  t.same(await hooksIn('kept.yaml'), ['***', '***', []])
  t.same(await hooksIn('join.yaml'), ['join', signing, []])
  t.match(await hooksIn('clear.yaml'), [
    'text',
    signing,
    [
      /^clear.yaml:5:\d+: leave.kubeconfig is in the file as it is; fromEnv/,
      /^clear.yaml:6:\d+: reboot.secret is in the file as it is/,
    ],
  ])
  t.match(await faultsIn(t, profile('{fromEnv: NONE}', '{fromEnv: HOOK}'), { HOOK: 'hunter2' }), [
    /^a.yaml:5:\d+: leave.kubeconfig comes from the environment variable NONE, which is not set$/,
    /^a.yaml:6:\d+: reboot.secret has not the form that it must have$/,
  ])
  t.match(await faultsIn(t, profile('join', 'hunter2')), [/^a.yaml:6:\d+: reboot.secret must be /])
})

t.test(
  'docs/fleet.schema.json is the schema that files are checked against (npm run docs writes it)',
  async (t) => {
    t.same(JSON.parse(readFileSync(join(root, 'docs/fleet.schema.json'), 'utf8')), fleetFileSchema())
  },
)

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('the example in the docs is taken whole, and the second time changes nothing', async (t) => {
    const { run } = await openInstallation(t, openWorld)
    const text = readFileSync(join(root, 'docs/fleet-files.md'), 'utf8')
    const blocks = [...text.matchAll(/```yaml\n# fleet\/(\S+)\n([\s\S]*?)```/g)]
    const folder = folderOf(
      t,
      Object.fromEntries(blocks.map(([, name = '', content = '']) => [name, content])),
    )
    t.ok(blocks.length >= 3, `${blocks.length} files`)
    const env = { K8S_TOKEN: 'abcdef.0123456789abcdef' }
    const channels = await run(['diff', '-f', folder], { env })
    t.match(channels.stderr, /image "worker@[^"]+" is not published/, 'its images are what it has not')
    const without = folderOf(
      t,
      Object.fromEntries(
        blocks.filter(([, , c = '']) => !c.includes('kind: Channel')).map(([, n = '', c = '']) => [n, c]),
      ),
    )
    t.match(await run(['apply', '-f', without, '--yes'], { env }), {
      exit: 0,
      stdout: / added, 0 changed, 0 removed/,
    })
    t.match(await run(['diff', '-f', without, '--exit-code'], { env }), {
      exit: 0,
      stdout: /^0 to add, 0 to change, 0 to remove/m,
    })
  })

  await t.test('a profile with hooks goes round: shown and applied, exported and compared', async (t) => {
    const api = await startKubernetesApi(t)
    const { run } = await openInstallation(t, openWorld)
    const webhook = {
      kind: 'webhook',
      url: 'https://x.example.test/',
      secret: `whsec_${Buffer.alloc(32, 3).toString('base64')}`,
    }
    const kubernetes = { kind: 'kubernetes', kubeconfig: { fromFile: 'leave.conf' } }
    const images = { stage2: 'a@1', stage3: 'b@1' }
    const profile = (name: string, leave: object): string =>
      JSON.stringify({
        ...{ kind: 'Profile', name, boot: 'local', reinstall: images, leave },
        reboot: { ...webhook, secret: { fromEnv: 'HOOK' } },
      })
    const folder = folderOf(t, {
      'a.yaml': `${profile('drained', kubernetes)}\n---\n${profile('called', webhook)}\n`,
      'leave.conf': api.kubeconfig(),
    })
    const env = { HOOK: webhook.secret }
    t.match(await run(['apply', '-f', folder, '--yes'], { env }), { exit: 0, stdout: /^2 added/m })
    for (const name of ['drained', 'called']) {
      const { stdout } = await run(['profile', 'show', name])
      t.match(stdout, /^ {2}(kubeconfig|secret): "\*\*\*"$/m)
      t.match(await run(['profile', 'apply', '-f', '-'], { stdin: stdout }), {
        exit: 0,
        stdout: /revision 1$/m,
      })
    }
    const { stdout } = await run(['export'])
    t.notMatch(stdout, webhook.secret)
    t.match(await run(['diff', '-f', '-', '--exit-code'], { stdin: stdout }), {
      exit: 0,
      stdout: /^0 to add, 0 to change, 0 to remove, 2 unchanged$/m,
    })
  })

  await t.test(
    'thousands of nodes go in one apply, though they are more than other requests may hold',
    async (t) => {
      const { run } = await openInstallation(t, openWorld)
      const serial = 'S'.repeat(100)
      const nodes = Array.from(
        { length: 6000 },
        (_, n) => `  - {name: n${n}.example.org, serial: "${serial}${n}"}`,
      )
      const stdin = `kind: Nodes\nnodes:\n${nodes.join('\n')}\n`
      const unsure = await run(['apply', '-f', '-'], { stdin })
      t.match(unsure, {
        exit: 0,
        stdout: /^6000 to add/m,
        stderr: 'nothing was done: add --yes to make 6000 changes',
      })
      t.match(await run(['apply', '-f', '-', '--yes'], { stdin }), { exit: 0, stdout: /^6000 added/m })
      t.match(await run(['diff', '-f', '-', '--exit-code'], { stdin }), {
        exit: 0,
        stdout: /^0 to add.* 6000 unchanged/m,
      })
      t.match(await run(['event', 'list', '--kind', 'fleet-applied']), {
        stdout: /fleet files, set default: 6000 added, 0 changed, 0 removed \(by admin\)/,
      })
      t.match(await run(['event', 'verify']), { exit: 0 })
    },
  )

  await t.test('a profile with a secret is shown, and applied again as it is shown', async (t) => {
    const { run } = await openInstallation(t, openWorld)
    const stdin = `name: p\nboot: {stage2: a@1, stage3: b@1, join: ${kubeadm('abcdef.0123456789abcdef')}}\n`
    t.match(await run(['profile', 'apply', '-f', '-'], { stdin }), { exit: 0 })
    const { stdout } = await run(['profile', 'show', 'p'])
    t.match(await run(['profile', 'apply', '-f', '-'], { stdin: stdout }), {
      exit: 0,
      stdout: /revision 1$/m,
    })
  })

  await t.test('an export applied to the fleet it came from changes nothing', async (t) => {
    const { run } = await openInstallation(t, openWorld)
    const folder = folderOf(t, {
      'a.yaml': `kind: Profile\nname: p\nevidence: [address, secret]\narmed: true\nwhenServerAbsent: local\nboot: {stage2: a@1, stage3: b/stable, join: ${kubeadm('abcdef.0123456789abcdef')}}\nreinstall: {stage2: a@1, stage3: b@1}\n---\nkind: Profile\nname: q\nboot: local\n---\nkind: Nodes\ndefaults: {profile: p}\nnodes:\n  - {name: n1, addresses: [192.0.2.1, "2001:db8::/64"], macs: ["525400000001"], uuid: 11111111-2222-3333-4444-555555555555, serial: "S 1 \\"x\\"", labels: {a.b/c: d, "on": "1"}}\n  - {name: n2, profile: null}\n`,
    })
    t.match(await run(['apply', '-f', folder, '--yes']), { exit: 0 })
    const exported = await run(['export'])
    t.notMatch(exported.stdout, 'abcdef.0123456789abcdef')
    const copy = await run(['diff', '-f', '-', '--exit-code', '--set', 'copy', '--take-over'], {
      stdin: exported.stdout,
    })
    t.match(copy, { exit: 0, stdout: /^0 to add, 0 to change, 0 to remove, 4 unchanged/m })
    const same = await run(['apply', '-f', '-'], { stdin: exported.stdout })
    t.match(same, { exit: 0, stdout: /^0 added, 0 changed, 0 removed, 4 unchanged/m })
  })
})
