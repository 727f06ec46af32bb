import t from 'tap'
import { renderNoCloud } from '../../src/domain/join/cloud-init.ts'
import type { DocumentValues } from '../../src/domain/join/document.ts'
import { renderIgnition } from '../../src/domain/join/ignition.ts'
import { handsOutCredential, type Join, joinFault } from '../../src/domain/join.ts'

const good = '#cloud-config\npackages: []\n'
const values: DocumentValues = {
  host: 'node1.example.com',
  session: 'AAAAAAAAAAAA',
  instanceId: 'AAAAAAAAAAAA',
  profile: 'worker',
  sequence: 'boot',
  labels: { rack: 'r7' },
}
const ignition = (more: string): string => `{"ignition":{"version":"3.4.0"}${more}}`

t.test('refuses documents that no node could use, naming the setting', async (t) => {
  const table: [string, Record<string, string>, string, RegExp][] = [
    ['no user data', {}, 'userData', /secretUserData is needed/],
    ['both', { userData: good, secretUserData: good }, 'userData', /one of the two/],
    [
      'no #cloud-config',
      { userData: 'packages: []\n' },
      'userData',
      /does not begin with the line "#cloud-config"/,
    ],
    ['a word that only begins so', { userData: '#cloud-configs\na: 1\n' }, 'userData', /does not begin/],
    ['a script', { userData: '#!/bin/sh\necho\n' }, 'userData', /does not begin/],
    [
      'no #cloud-config in vendor data',
      { userData: good, vendorData: 'a: 1\n' },
      'vendorData',
      /does not begin/,
    ],
    [
      'an unknown variable',
      { userData: '#cloud-config\na: "{{ hots }}"\n' },
      'userData',
      /uses "hots", which there is not: host, session/,
    ],
    [
      'an unknown variable in a condition',
      { userData: '#cloud-config\n{% if hots %}a: 1{% endif %}\n' },
      'userData',
      /uses "hots"/,
    ],
    [
      'an unknown variable in a secret',
      { secretUserData: '#cloud-config\na: "{{ hots }}"\n' },
      'secretUserData',
      /uses "hots"/,
    ],
    [
      'a part of a variable that has none',
      { userData: '#cloud-config\na: "{{ host.name }}"\n' },
      'userData',
      /undefined variable: host\.name/,
    ],
    [
      'a loop',
      { userData: '#cloud-config\n{% for i in (1..9) %}a{% endfor %}\n' },
      'userData',
      /the tag "for" is not for documents/,
    ],
    [
      'a label that is a count',
      { userData: '#cloud-config\na: "{{ labels.size }}"\n' },
      'userData',
      /uses "labels\.size"/,
    ],
    ['a file', { userData: '#cloud-config\n{% include "/etc/passwd" %}\n' }, 'userData', /the tag "include"/],
    [
      'an unknown filter',
      { userData: '#cloud-config\na: {{ host | shout }}\n' },
      'userData',
      /undefined filter: shout/,
    ],
    ['a tag that is not closed', { userData: '#cloud-config\n{% if host %}\n' }, 'userData', /not closed/],
    ['no YAML', { userData: '#cloud-config\na: [1\n' }, 'userData', /is not YAML, line \d/],
    [
      'a key twice',
      { userData: '#cloud-config\na: 1\na: 2\n' },
      'userData',
      /is not YAML, line 3: duplicate key/,
    ],
    ['a list', { userData: '#cloud-config\n- a\n' }, 'userData', /is not a mapping of YAML/],
    ['nothing', { userData: '#cloud-config\n' }, 'userData', /is not a mapping of YAML/],
    [
      'a network without version',
      { userData: good, networkConfig: 'ethernets: {}\n' },
      'networkConfig',
      /"version: 1" or "version: 2"/,
    ],
    [
      'a network of version 3',
      { userData: good, networkConfig: 'network: {version: 3}\n' },
      'networkConfig',
      /"version: 1"/,
    ],
  ]
  for (const [what, settings, at, message] of table) {
    const fault = joinFault({ kind: 'cloud-init', settings } as Join)
    t.equal(fault?.at, `settings.${at}`, what)
    t.match(fault?.message, message, what)
  }
  const bomb = `#cloud-config\na: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefg'].map((name, at) => `${name}: &${name} [${Array(9).fill(`*${'abcdefg'[at]}`).join()}]\n`).join('')}`
  t.match(
    joinFault({ kind: 'cloud-init', settings: { userData: bomb } })?.message,
    /alias/i,
    'a bomb of aliases',
  )
})

t.test('refuses what is no Ignition configuration, and quotes nothing of it', async (t) => {
  const table: [string, string, RegExp][] = [
    ['no JSON', '{"ignition": hush', /^is not JSON$/],
    ['a list', '[]', /its top must be object/],
    ['no version', '{"ignition":{}}', /ignition must have required properties version/],
    ['version 2', '{"ignition":{"version":"2.3.0"}}', /ignition\.version must match/],
    ['an unknown section', ignition(',"files":[]'), /: files is none of its fields$/],
    [
      'a path that is none',
      ignition(',"storage":{"files":[{"path":"etc/x"}]}'),
      /storage\.files\.0\.path must match/,
    ],
    [
      'a mode beyond 7777',
      ignition(',"storage":{"files":[{"path":"/x","mode":4096}]}'),
      /storage\.files\.0\.mode must be <= 4095/,
    ],
    [
      'a source of no known kind',
      ignition(',"storage":{"files":[{"path":"/x","contents":{"source":"file:///etc/shadow"}}]}'),
      /storage\.files\.0\.contents\.source/,
    ],
    [
      'a unit without type',
      ignition(',"systemd":{"units":[{"name":"a"}]}'),
      /systemd\.units\.0\.name must match/,
    ],
    ['an unknown variable', ignition(',"storage":{"files":[{"path":"/{{ hots }}"}]}'), /uses "hots"/],
  ]
  for (const [what, config, message] of table) {
    const fault = joinFault({ kind: 'ignition', settings: { config } })
    t.equal(fault?.at, 'settings.config', what)
    t.match(fault?.message, message, what)
    t.notMatch(fault?.message, 'hush')
  }
  t.match(joinFault({ kind: 'ignition', settings: {} })?.message, /secretConfig is needed/)
})

t.test('renders with the values of a node, and takes what needs no value', async (t) => {
  const userData =
    '#cloud-config\nfqdn: "{{ labels.rack | upcase }}.{{ host }}"\n{% if labels.row %}x: 1{% endif %}\n'
  t.equal(joinFault({ kind: 'cloud-init', settings: { userData } }), undefined)
  const { files, network } = renderNoCloud({ userData }, values)
  t.equal(files['user-data'], '#cloud-config\nfqdn: "R7.node1.example.com"\n\n')
  t.equal(network, undefined)
  const other = '#cloud-config\nrow: "{{ labels.row }}"\n'
  t.throws(() => renderNoCloud({ userData: other }, values), {
    code: 'render-failed',
    message: /^join: settings\.userData undefined variable: labels\.row/,
  })
  const jinja = '#cloud-config\na: "{% raw %}{{ v1.hostname }}{% endraw %}"\n'
  t.equal(
    renderNoCloud({ userData: jinja }, values).files['user-data'],
    '#cloud-config\na: "{{ v1.hostname }}"\n',
  )
  t.equal(renderNoCloud({ secretUserData: good }, values).files['user-data'], good)
  const config = ignition(
    ',"storage":{"files":[{"path":"/etc/{{ host }}","contents":{"source":"data:,{{ labels.rack }}"}}]}',
  )
  t.equal(
    renderIgnition({ config }, values),
    '{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"/etc/node1.example.com","contents":{"source":"data:,r7"}}]}}',
  )
})

t.test('a document that grows beyond its bound is refused', async (t) => {
  const userData = `#cloud-config\na: "${'{{host}}'.repeat(4000)}"\n`
  const long = { ...values, host: Array(4).fill('a'.repeat(62)).join('.') }
  t.throws(() => renderNoCloud({ userData }, long), { code: 'render-failed', message: /more than 262144/ })
})

t.test('both count as handing out a credential: an address alone does not open them', async (t) => {
  t.ok(handsOutCredential({ kind: 'cloud-init', settings: { userData: good } }))
  t.ok(handsOutCredential({ kind: 'ignition', settings: { config: ignition('') } }))
})
