import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { importCsv } from '../../src/cli/import/csv.ts'
import { importEpoxy as importAt } from '../../src/cli/import/epoxy.ts'
import { importMatchbox } from '../../src/cli/import/matchbox.ts'
import { isPawlError } from '../../src/errors.ts'
import { forEachDatabase, worldBegins } from '../helpers/world.ts'
import { openInstallation, temporaryFolder } from './helpers/installation.ts'

const codeOf = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    if (isPawlError(error)) return `${error.code}: ${error.message}`
    throw error
  }
  return 'nothing'
}

const importEpoxy = (text: string, file: string): ReturnType<typeof importAt> =>
  importAt(text, file, worldBegins)

/** A record as `epoxy_admin list` prints it. */
function host(name: string, over: object = {}): string {
  const urls = (stage: string): object => ({
    'stage1.ipxe': `https://boot.example.org/${stage}/{{VERSION}}/stage1to2.ipxe`,
    'stage1.json': `https://boot.example.org/${stage}/{{VERSION}}/stage1to2.json`,
    stage2: `https://boot.example.org/${stage}/stage2.json`,
    stage3: `https://boot.example.org/${stage}/stage3.json`,
  })
  const record = {
    Name: name,
    IPv4Addr: '192.0.2.12',
    Boot: urls('boot'),
    Update: urls('update'),
    ImagesVersion: 'v2.1.6',
    UpdateEnabled: false,
    Extensions: [],
    CurrentSessionIDs: { Stage2ID: 'AAAAAAAAAAAAAAAAAAAAAAAAAAA' },
    CollectedInformation: { MAC: '52:54:00:00:00:01', UUID: '', Serial: 'S1' },
    ...over,
  }
  return `Listing: ${name}\n${JSON.stringify(record, null, 4)}\n`
}

const epoxy =
  host('mlab1.lga01.example.org') +
  host('mlab2.lga01.example.org', {
    IPv4Addr: '192.0.2.13',
    CollectedInformation: { UUID: '00000000-0000-0000-0000-000000000000', MAC: 'x"{' },
    UpdateEnabled: true,
    Extensions: ['allocate_k8s_token'],
  }) +
  host('mlab3.lga01.example.org', { IPv4Addr: '', ImagesVersion: 'v3', CollectedInformation: {}, Update: {} })

const matchbox = {
  stage2: 'minimal@1',
  groups: [
    {
      path: 'groups/node1.json',
      text: JSON.stringify({
        name: 'node1',
        profile: 'etcd',
        selector: { mac: '52:54:00:00:00:02', os: 'installed' },
        metadata: { etcd_name: 'node1', peers: ['a'], url: 'http://x y' },
      }),
    },
    { path: 'groups/default.json', text: JSON.stringify({ name: 'default', profile: 'etcd' }) },
    { path: 'groups/bad.json', text: '{' },
    {
      path: 'groups/lost.json',
      text: JSON.stringify({
        id: 'lost',
        profile: 'nope',
        selector: { uuid: '11111111-2222-3333-4444-555555555555' },
      }),
    },
  ],
  profiles: [
    {
      path: 'profiles/etcd.json',
      text: JSON.stringify({
        id: 'etcd',
        ignition_id: 'e.ign',
        boot: {
          kernel: '/assets/k',
          initrd: ['/assets/i'],
          args: [
            'initrd=main',
            'coreos.config.url=http://m/ignition?uuid=${uuid}',
            'console=ttyS0',
            'coreos.autologin',
          ],
        },
      }),
    },
  ],
}

const csv = [
  '\uFEFFHostname;IP address;MAC;Serial;Rack;Notes\r',
  'a1.example.org;192.0.2.1 2001:db8::1;52:54:00:00:00:03|525400000004;S1;r1;"two\r',
  'lines"\r',
  'A2.example.org;;52:54:00:00:00:03;=HYPERLINK("http://x");r 2;\r',
  'bad_name;;;;;\r',
  'a1.example.org;;;;;\r',
  'short;row\r',
  '@SUM(A1);;;;;\r',
].join('\n')

t.test('ePoxy records become nodes, and profiles for what they boot', (t) => {
  const { fleet, warnings } = importEpoxy(epoxy, 'hosts')
  t.same(fleet.nodes, [
    {
      name: 'mlab1.lga01.example.org',
      addresses: ['192.0.2.12'],
      macs: ['52:54:00:00:00:01'],
      serial: 'S1',
      profile: 'epoxy-v2-1-6',
    },
    { name: 'mlab2.lga01.example.org', addresses: ['192.0.2.13'], profile: 'epoxy-v2-1-6-2' },
    { name: 'mlab3.lga01.example.org', profile: 'epoxy-v3' },
  ])
  t.same(
    fleet.profiles.map(({ name, extensions, reinstall }) => [name, extensions, reinstall !== undefined]),
    [
      ['epoxy-v2-1-6', undefined, true],
      ['epoxy-v2-1-6-2', ['allocate_k8s_token'], true],
      ['epoxy-v3', undefined, false],
    ],
  )
  t.match(warnings, [
    /mlab2.*: MAC address "x\\"\{" is not six hex pairs: left out/,
    /mlab2.*: UUID .* the firmware has none: left out/,
    /mlab2.*: it waits for its update/,
    /mlab3.*: its Update is not whole/,
    /trust the address alone/,
    /do not say which service answers allocate_k8s_token: .* until pawl extension apply -f allocate_k8s_token.extension/,
  ])
  t.notMatch(JSON.stringify(fleet), 'AAAAAAAAAAAAAAAAAAAAAAAAAAA', 'no session id is taken over')
  t.same(
    importEpoxy(`[${host('a').replace(/^Listing.*/, '')}]`, 'x').fleet.nodes.length,
    1,
    'a JSON list does too',
  )
  const before2019 = {
    Stage1ChainURL: 'https://b/s1.ipxe',
    Stage2ChainURL: 'https://b/s2',
    Stage3ChainURL: 'https://b/s3',
  }
  t.match(importEpoxy(host('old', { Boot: before2019, Update: before2019 }), 'x').warnings, [
    /no stage1.json/,
  ])
  t.same(
    [
      codeOf(() => importEpoxy('', 'x')),
      codeOf(() => importEpoxy('{"Name": "a"', 'x')),
      codeOf(() => importEpoxy('{"Name": a}', 'x')),
      codeOf(() => importEpoxy('[1]', 'x')),
    ],
    [
      'invalid: x has no host records',
      'invalid: x: the JSON of record 1 is cut off',
      'invalid: x: record 1: it is not JSON',
      'invalid: x: record 1: it is no JSON object',
    ],
  )
  t.end()
})

t.test('what is broken or hostile in ePoxy records costs its host alone, and says why', (t) => {
  const urls = {
    'stage1.ipxe': 'https://b/1.ipxe',
    'stage1.json': 'https://b/1.json',
    stage2: 'https://b/2',
    stage3: 'https://b/3',
  }
  const table: readonly (readonly [unknown, RegExp, object | undefined])[] = [
    [{ Name: 'a\u001b[2J' }, /node name .*left out/, undefined],
    [{ Name: 'UPPER.example.org' }, /its Boot does not name/, { name: 'upper.example.org' }],
    [{ Name: '../etc' }, /node name/, undefined],
    [{ Name: 7 }, /record 4: it has no Name/, undefined],
    ['text', /record 5: it is no JSON object/, undefined],
    [{ Name: 'b1', IPv4Addr: '192.0.2.1; reboot' }, /address .*left out/, { name: 'b1' }],
    [
      { Name: 'b2', Boot: { ...urls, stage2: 'https://b/2\n${evil}' }, Update: urls },
      /boot.*: it gets no profile/,
      { name: 'b2' },
    ],
    [{ Name: 'b3', Boot: { ...urls, stage3: 'javascript:0' } }, /it gets no profile/, { name: 'b3' }],
    [
      { Name: 'b4', Boot: urls, Update: { ...urls, stage2: 'file:///etc/shadow' } },
      /reinstall.*: the profile has no reinstall sequence/,
      { name: 'b4', profile: 'epoxy-latest' },
    ],
    [
      { Name: 'b5', Boot: urls, Update: urls, ImagesVersion: 'v1 --evil' },
      /imagesVersion.*: it gets no profile/,
      { name: 'b5' },
    ],
    [
      { Name: 'b6', Boot: urls, Extensions: [{ toString: 1, valueOf: 1 }, 'a/../b', 'ok', 'report', 'ok'] },
      /its extension is left out: "a\/..\/b" is not an operation/,
      { name: 'b6', profile: 'epoxy-latest-2' },
    ],
    [
      { Name: 'b61', Boot: urls, Extensions: Array.from({ length: 17 }, (_, n) => `op${n}`) },
      /more than 16 extensions: the others are left out/,
      { name: 'b61', profile: 'epoxy-latest-3' },
    ],
    [
      { Name: 'b7', LastSuccess: '2999-01-01T00:00:00Z' },
      /LastSuccess is no time of before now/,
      { name: 'b7' },
    ],
    [{ Name: 'b8', LastSessionCreation: 'yesterday' }, /LastSessionCreation is no time/, { name: 'b8' }],
    [
      { Name: 'b9', CollectedInformation: { PublicSSHHostKey: 'ssh-rsa AAAA' } },
      /PublicSSHHostKey was told without proof/,
      { name: 'b9' },
    ],
    [
      JSON.parse('{"Name": "c1", "__proto__": {"UpdateEnabled": true}, "Boot": null}'),
      /Boot/,
      { name: 'c1' },
    ],
  ]
  const records = table.map(([record]) => JSON.stringify(record)).join(',')
  const imported = importEpoxy(`[${records}]`, 'x')
  t.equal(imported.records.length, table.length)
  for (const [index, [record, why, node]] of table.entries()) {
    const outcome = imported.records[index]
    t.ok(
      outcome?.notKept.some((one) => why.test(`${outcome.record}: ${one}`)),
      `${JSON.stringify(record)} ${why}`,
    )
    t.match(
      imported.fleet.nodes.find(({ name }) => name === outcome?.node),
      node as never,
    )
    t.equal(outcome?.node === null, node === undefined)
  }
  t.notOk(imported.warnings.some((one) => one.includes('waits for its update')))
  t.same(
    importEpoxy(
      `${host('a')}Listing: b\n{"Name": b}\n${host('c', { IPv4Addr: '192.0.2.3' })}`,
      'x',
    ).records.map(({ record, node, notKept }) => [record, node, notKept.length > 0]),
    [
      ['x: a', 'a', false],
      ['x: record 2', null, true],
      ['x: c', 'c', true],
    ],
    'one record that is not JSON leaves the others',
  )
  const many = Array.from({ length: 501 }, (_, n) => ({ Name: `n${n}`, Boot: urls, ImagesVersion: `v${n}` }))
  const [last] = importEpoxy(JSON.stringify(many), 'x').records.slice(-1)
  t.match(last, { node: 'n500', profile: null })
  t.match(last?.notKept.at(-1), /something else than 500 hosts before it/)
  t.end()
})

t.test('the times of ePoxy go beside the fleet files, as metrics of their own', (t) => {
  const { beside = [] } = importEpoxy(
    host('a', {
      LastSessionCreation: '2018-05-01T00:00:00.123456789Z',
      LastSuccess: '2018-05-01T02:00:00+02:00',
    }) +
      host('b', {
        IPv4Addr: '',
        LastSessionCreation: '2020-01-01T00:00:00Z',
        LastSuccess: '0001-01-01T00:00:00Z',
      }) +
      host('b', { LastSuccess: '2020-01-01T00:00:00Z' }),
    'x',
  )
  t.same(beside, [
    {
      name: 'epoxy-history.prom',
      lines: [
        '# HELP epoxy_last_boot When ePoxy last served stage 1 to each machine, before it was moved to Pawl.',
        '# TYPE epoxy_last_boot gauge',
        'epoxy_last_boot{machine="a"} 1525132800',
        'epoxy_last_boot{machine="b"} 1577836800',
        '# HELP epoxy_last_success When each machine last reported success to ePoxy, before it was moved.',
        '# TYPE epoxy_last_success gauge',
        'epoxy_last_success{machine="a"} 1525132800',
      ],
    },
  ])
  t.same(importEpoxy(host('a'), 'x').beside, [], 'what never booted has none')
  t.end()
})

t.test('matchbox groups become nodes, its profiles images to publish', (t) => {
  const { fleet, warnings } = importMatchbox(matchbox)
  t.same(fleet.nodes, [
    {
      name: 'node1',
      macs: ['52:54:00:00:00:02'],
      profile: 'etcd',
      labels: { os: 'installed', etcd_name: 'node1' },
    },
    { name: 'lost', uuid: '11111111-2222-3333-4444-555555555555' },
  ])
  t.same(fleet.profiles, [
    {
      name: 'etcd',
      kernelArguments: 'console=ttyS0 coreos.autologin',
      boot: { stage2: 'minimal@1', stage3: 'etcd@1' },
    },
  ])
  for (const said of [
    /kernel argument initrd=main/,
    /kernel argument coreos.config.url/,
    /publish \/assets\/k and \/assets\/i as image etcd@1/,
    /ignition_id e.ign has no place/,
    /default.json: it selects no single machine/,
    /bad.json: it is not JSON/,
    /peers is no text/,
    /label "url=http:/,
    /its profile nope was not imported/,
  ])
    t.ok(
      warnings.some((warning) => said.test(warning)),
      String(said),
    )
  t.end()
})

t.test('the site of a node comes along as the label that caches go by; no import knows a cache', (t) => {
  const group = (name: string, metadata: object) => ({
    path: `groups/${name}.json`,
    text: JSON.stringify({ name, profile: 'etcd', selector: { hostname: name }, metadata }),
  })
  const imported = [
    importMatchbox({ ...matchbox, groups: [group('node1', { site: 'ams' })] }),
    importCsv('name,where\nnode1,ams\n', 'i.csv', { where: 'labels.site' }),
  ]
  for (const { fleet } of imported) {
    t.same(
      fleet.nodes.map(({ labels }) => labels),
      [{ site: 'ams' }],
    )
    for (const profile of fleet.profiles) t.notOk('artifactBase' in profile)
  }
  t.end()
})

t.test('an inventory becomes nodes; what is no value is left out, with its line', (t) => {
  const { fleet, warnings } = importCsv(csv, 'i.csv', { Rack: 'labels.rack' })
  t.same(fleet.nodes, [
    {
      name: 'a1.example.org',
      addresses: ['192.0.2.1', '2001:db8::1'],
      macs: ['52:54:00:00:00:03', '52:54:00:00:00:04'],
      serial: 'S1',
      labels: { rack: 'r1' },
    },
    { name: 'a2.example.org' },
  ])
  t.match(warnings, [
    /column "Notes" is left out/,
    /i.csv:4: serial "=HYPERLINK.*looks like a formula/,
    /i.csv:4: MAC address 52:54:00:00:00:03 is that of i.csv:3 already/,
    /i.csv:4: label "rack=r 2"/,
    /i.csv:5: node name "bad_name"/,
    /i.csv:6: name a1.example.org is that of i.csv:3 already/,
    /i.csv:7: it has 2 cells, and the head has 6/,
    /i.csv:8: name "@SUM\(A1\)" looks like a formula/,
    /i.csv:8: it has no name/,
  ])
  t.same(importCsv('Asset,Box\nn1,5', 'x', { Asset: 'name', Box: '-' }), {
    fleet: { nodes: [{ name: 'n1' }], profiles: [], channels: [], extensions: [] },
    warnings: [],
    remarks: [],
    records: [{ record: 'x:2', node: 'n1', profile: null, notKept: [] }],
  })
  t.same(
    [
      codeOf(() => importCsv('', 'x', {})),
      codeOf(() => importCsv('a,b\n1,2', 'x', {})),
      codeOf(() => importCsv('name\na', 'x', { Name: 'serial' })),
      codeOf(() => importCsv('name,b\na,c', 'x', { b: 'colour' })),
      codeOf(() => importCsv('name\n"a', 'x', {})),
      codeOf(() => importCsv(`name\n${'a'.repeat(70_000)}`, 'x', {})).slice(0, 10),
      codeOf(() =>
        importCsv(`name\n${Array.from({ length: 20_001 }, (_, n) => `n${n}`).join('\n')}`, 'x', {}),
      ),
    ],
    [
      'invalid: x is empty',
      'invalid: x has no column for the name',
      'usage: x has no column "Name"',
      'usage: "colour" is no field of a node',
      'invalid: x:2: Quote Not Closed: the parsing is finished with an opening quote at line 2',
      'invalid: x',
      'too-large: more than 20000 machines',
    ],
  )
  t.end()
})

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('what is imported passes pawl diff, is applied, and then changes nothing', async (t) => {
    const { run } = await openInstallation(t, openWorld)
    const folder = temporaryFolder(t)
    writeFileSync(join(folder, 'hosts'), epoxy)
    writeFileSync(join(folder, 'i.csv'), csv)
    for (const [kind, files] of [
      ['groups', matchbox.groups],
      ['profiles', matchbox.profiles],
    ] as const) {
      mkdirSync(join(folder, 'matchbox', kind), { recursive: true })
      for (const { path, text } of files) writeFileSync(join(folder, 'matchbox', path), text)
    }
    const table: [string, string[]][] = [
      ['epoxy', ['epoxy', join(folder, 'hosts')]],
      ['matchbox', ['matchbox', join(folder, 'matchbox')]],
      ['csv', ['csv', join(folder, 'i.csv'), '--map', 'Rack=labels.rack']],
    ]
    for (const [set, argv] of table) {
      const out = join(folder, `out-${set}`)
      t.match(await run(['import', ...argv, '--out', out]), { exit: 0 }, set)
      t.match(await run(['diff', '-f', out, '--set', set]), { exit: 0 }, set)
      t.match(await run(['apply', '-f', out, '--set', set, '--yes']), { exit: 0 }, set)
      t.match(await run(['diff', '-f', out, '--set', set, '--exit-code']), { exit: 0 }, set)
      t.match(
        await run(['import', ...argv, '--out', out]),
        { exit: 0, stdout: /already: nothing was written/ },
        'a second run changes nothing',
      )
      writeFileSync(join(out, 'nodes.yaml'), 'kind: Node\nname: own\n')
      t.match(
        await run(['import', ...argv, '--out', out]),
        { exit: 1, stderr: /nodes.yaml exists already, and is another/ },
        'nothing is overwritten',
      )
      t.equal(readFileSync(join(out, 'nodes.yaml'), 'utf8'), 'kind: Node\nname: own\n')
      const printed = await run(['import', ...argv])
      t.match(
        await run(['diff', '-f', '-', '--set', set, '--exit-code'], { stdin: printed.stdout }),
        { exit: 0 },
        set,
      )
    }
    const services = join(folder, 'services')
    const again = ['import', 'epoxy', join(folder, 'hosts'), '--out', services]
    t.match(await run(again), { exit: 0 })
    const file = join(services, 'allocate_k8s_token.extension')
    t.match(readFileSync(file, 'utf8'), /^operation: allocate_k8s_token\nurl: # https:.*\n$/m)
    writeFileSync(file, 'operation: allocate_k8s_token\nurl: https://tokens.example.org/v2\n')
    t.match(await run(again), { exit: 0, stdout: /nothing was written/ })
    t.match(readFileSync(file, 'utf8'), /tokens/, 'what was filled in stays')
    // One record a file, as other programs keep them, or lists of some.
    const records = join(folder, 'records')
    mkdirSync(records)
    t.match(await run(['import', 'epoxy', records]), { exit: 1, stderr: /there is no \*\.json in / })
    writeFileSync(join(records, 'a.json'), host('a.example.org').replace(/^Listing.*/, ''))
    writeFileSync(join(records, 'b.json'), `[${host('b.example.org').replace(/^Listing.*/, '')}]`)
    t.match(await run(['import', 'epoxy', records]), {
      exit: 0,
      stdout: /name: a\.example\.org\n[\s\S]*name: b\.example\.org\n/,
    })
    writeFileSync(join(records, 'a.json'), '{"Name": "a.example.org"')
    t.match(await run(['import', 'epoxy', records]), {
      exit: 1,
      stderr: /a\.json: the JSON of record 1 is cut off/,
    })
    const preview = await run([
      'import',
      'epoxy',
      join(folder, 'hosts'),
      '--preview',
      '--out',
      join(folder, 'no'),
    ])
    t.match(preview, { exit: 0, stderr: /trust the address alone/ })
    t.match(preview.stdout, /mlab3.lga01.example.org +epoxy-v3 +its Update is not whole/)
    t.notOk(existsSync(join(folder, 'no')), 'a preview writes nothing')
    t.match(await run(['import', 'matchbox', folder]), { exit: 1, stderr: /there is no groups/ })
    t.match(await run(['import', 'csv', join(folder, 'none')]), { exit: 1, stderr: /there is no/ })
  })
})
