import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { loadTemplates } from '../../src/templates/load.ts'
import { createEngine } from '../../src/templates/render.ts'
import {
  exampleVariables,
  type TemplateName,
  templateNames,
  templateVariables,
} from '../../src/templates/variables.ts'
import { golden, stage1 } from './golden.ts'
import { missingLabels, readScript } from './ipxe-model.ts'

const folder = new URL('../../ipxe-templates/', import.meta.url).pathname
const goldenFolder = new URL('../golden/', import.meta.url).pathname
const templates = loadTemplates([folder])

/** Renders with values whose types are not checked: tests give wrong ones. */
function render(name: TemplateName, variables: Readonly<Record<string, unknown>>): string {
  return (templates.render as (name: string, variables: unknown) => string)(name, variables)
}

t.test('refuses values that a line cannot carry, naming field and character, never the value', async (t) => {
  const refused: [name: TemplateName, field: string, value: unknown, message: RegExp][] = [
    ['stage1.ipxe', 'host', 'node1\nshell', /host name/],
    ['stage1.ipxe', 'host', '', /host name/],
    ['stage1.ipxe', 'session', 'a b', /session holds a space/],
    ['stage1.ipxe', 'session', '', /session is empty/],
    ['stage1.ipxe', 'capability', 'abc&secret=1', /capability holds "&", which is not base64url/],
    ['stage1.ipxe', 'handoverToken', 'a'.repeat(257), /handoverToken has 257 characters/],
    ['stage1.ipxe', 'handoverToken', '', /handoverToken is empty/],
    ['stage1.ipxe', 'kernelUrl', 'http://boot.example.com/k', /kernelUrl is not an https URL/],
    ['stage1.ipxe', 'kernelUrl', 'https://boot.example.com/k?x=1', /kernelUrl holds "\?"/],
    ['stage1.ipxe', 'kernelUrl', 'https://boot.example.com/$' + '{mac}', /kernelUrl holds "\$\{"/],
    ['stage1.ipxe', 'kernelUrl', 'https://boot.example.com/a;b', /kernelUrl holds ";"/],
    ['stage1.ipxe', 'kernelUrl', 'https://boot.example.com/\\', /kernelUrl holds "\\", which joins lines/],
    ['stage1.ipxe', 'kernelUrl', 'https://boot.example.com/é', /kernelUrl holds U\+00E9/],
    ['stage1.ipxe', 'kernelSha256', 'AB'.repeat(32), /kernelSha256 is not a SHA-256/],
    ['stage1.ipxe', 'kernelArguments', 'quiet', /kernelArguments is not a list/],
    ['stage1.ipxe', 'kernelArguments', ['a b'], /kernelArguments holds a space/],
    ['stage1.ipxe', 'kernelArguments', ['quiet', '||', 'shell'], /kernelArguments holds "\|\|"/],
    ['stage1.ipxe', 'kernelArguments', ['#'], /kernelArguments holds "#", which begins a comment/],
    ['stage1.ipxe', 'kernelArguments', ['a="b'], /kernelArguments holds '"'/],
    ['stage1.ipxe', 'kernelArguments', ['a\tb'], /kernelArguments holds U\+0009/],
    ['stage1.ipxe', 'kernelArguments', ['', 'b'], /kernelArguments is empty/],
    ['stage1.ipxe', 'uefi', 'yes', /uefi is not true or false/],
    ['held.ipxe', 'attempts', -1, /attempts is not a whole number/],
    ['pending.ipxe', 'serial', '-n', /serial holds "-", which begins an option/],
    ['pending.ipxe', 'product', 'Standard PC', /product holds a space/],
    ['pending.ipxe', 'product', 'a&&b', /product holds "&&", which separates commands/],
    ['epoxy-stage1.ipxe', 'stage1ChainUrl', 'ftp://x/y', /stage1ChainUrl is not an http or https URL/],
    ['epoxy-stage1.ipxe', 'stage1ChainUrl', 'https://x/y#z', /stage1ChainUrl holds "#"/],
    ['epoxy-stage1.ipxe', 'imagesVersion', 'v1;v2', /imagesVersion holds ";"/],
    [
      'autoexec.ipxe',
      'publicUrl',
      'https://boot.example.com/',
      /publicUrl is not an https URL without a slash/,
    ],
    ['autoexec.ipxe', 'whenServerAbsent', 'never', /whenServerAbsent is not "retry" or "local"/],
    ['join-kubeadm.sh', 'token', '$(reboot)', /token holds "\$"/],
    ['join-kubeadm.sh', 'endpoint', 'k8s:6443"', /endpoint holds '"'/],
    ['join-none.sh', 'settings', [{ name: 'a', value: 'b c' }], /settings: a holds a space/],
    ['join-none.sh', 'settings', [{ name: 'a=b', value: 'c' }], /settings: name is not a name/],
    ['join-none.sh', 'settings', [{ name: 'a' }], /settings: a is not text/],
    ['join-none.sh', 'profile', 'a`b`', /profile holds "`"/],
  ]
  for (const [name, field, value, message] of refused) {
    const variables = { ...exampleVariables(name)[0], [field]: value }
    t.throws(() => render(name, variables), { name: 'PawlError', message }, `${name} ${field} ${message}`)
  }
  const secret = 'very;secret'
  try {
    render('autoexec.ipxe', { ...exampleVariables('autoexec.ipxe')[0], secret })
    t.fail('a secret with ";" must be refused')
  } catch (error) {
    t.notMatch(String(error), 'very', 'the message does not hold the value')
  }
})

t.test('refuses a missing variable, and one that the template does not take', async (t) => {
  for (const name of templateNames) {
    const [variables] = exampleVariables(name)
    for (const field of Object.keys(templateVariables[name])) {
      const { [field]: _left, ...others } = variables ?? {}
      const message = `template ${name} is not given its variable "${field}"`
      t.throws(() => render(name, others), { code: 'render-failed', message })
    }
    t.throws(() => render(name, { ...variables, more: 'x' }), {
      message: `template ${name} takes no variable "more"`,
    })
  }
  t.throws(() => render('stage2.ipxe' as TemplateName, {}), { code: 'render-failed' })
})

t.test('takes a kernel command line of 2047 bytes and refuses one of 2048', async (t) => {
  // "kernel initrd=initrd.magic " has 27 bytes.
  const line = (bytes: number): string =>
    render('stage1.ipxe', { ...stage1, kernelArguments: ['a'.repeat(bytes - 27)] })
  t.match(line(2047), `initrd=initrd.magic ${'a'.repeat(2020)} &&`)
  t.throws(() => line(2048), {
    code: 'render-failed',
    message: /kernelArguments do not fit: .* 2048 bytes, more than 2047/,
  })
})

t.test('refuses at start what would fail in the middle of a boot', async (t) => {
  const refused: [what: string, file: string, text: string, message: RegExp][] = [
    ['an unknown variable', 'held.ipxe', '#!ipxe\necho {{ hots }}\n', /uses "hots", which it is not given/],
    ['a variable that another template has', 'held.ipxe', '#!ipxe\necho {{ session }}\n', /uses "session"/],
    ['a syntax error', 'held.ipxe', '#!ipxe\n{% if host %}\n', /fails: tag .*not closed/],
    [
      'an unknown field of a list',
      'join-none.sh',
      '#!/bin/sh\n{% for s in settings %}{{ s.nam }}{% endfor %}\n',
      /undefined variable: s\.nam/,
    ],
    ['an unknown filter', 'held.ipxe', '#!ipxe\necho {{ host | shout }}\n', /undefined filter: shout/],
    ['the filter raw', 'held.ipxe', '#!ipxe\necho {{ host | raw }}\n', /may not use the filter "raw"/],
    ['an include', 'held.ipxe', '#!ipxe\n{% include "/etc/passwd" %}\n', /may not use the tag "include"/],
    ['a render', 'held.ipxe', "#!ipxe\n{% render 'held.ipxe' %}\n", /may not use the tag "render"/],
    ['a layout', 'held.ipxe', "#!ipxe\n{% layout 'x' %}\n", /may not use the tag "layout"/],
    ['a raw block', 'held.ipxe', '#!ipxe\n{% raw %}x{% endraw %}\n', /may not use the tag "raw"/],
    ['another first line', 'held.ipxe', '#!gpxe\necho {{ host }}\n', /does not begin with #!ipxe/],
    ['something before the first line', 'held.ipxe', '\n#!ipxe\n', /does not begin with #!ipxe/],
    [
      'characters beyond ASCII',
      'held.ipxe',
      '#!ipxe\necho {{ host }}\necho café\n',
      /not printable ASCII in line 3/,
    ],
    ['a carriage return', 'held.ipxe', '#!ipxe\necho x\r\n', /not printable ASCII in line 2/],
    [
      'a whole list where text is printed',
      'stage1.ipxe',
      '#!ipxe\necho {{ kernelArguments }}\n',
      /may not use a list/,
    ],
    [
      'a property that values inherit',
      'held.ipxe',
      '#!ipxe\necho {{ host.constructor }}\n',
      /undefined variable/,
    ],
    ['a file that replaces nothing', 'hold.ipxe', '#!ipxe\n', /hold\.ipxe is not the name of a template/],
  ]
  for (const [what, file, text, message] of refused) {
    const own = t.testdir({ [file]: text })
    t.throws(() => loadTemplates([own, folder]), { name: 'PawlError', code: 'render-failed', message }, what)
  }
  t.throws(() => loadTemplates([t.testdir({})]), { message: /stage1\.ipxe is in none of/ })
})

t.test('each of our own templates renders with every combination of values', async (t) => {
  for (const name of templateNames) {
    const examples = exampleVariables(name)
    t.doesNotThrow(() => {
      for (const values of examples) render(name, values)
    }, `${name}: ${examples.length}`)
  }
  t.equal(exampleVariables('autoexec.ipxe').length, 2048)
})

t.test('a template that replaces one of ours is tried with every combination at start', async (t) => {
  const deep = '{% if uefi %}{% unless verifyDigests %}{{ kernelArguments }}{% endunless %}{% endif %}'
  const own = t.testdir({ 'stage1.ipxe': `#!ipxe\n${deep}\n` })
  t.throws(() => loadTemplates([own, folder]), { message: /may not use a list/ })
})

t.test('checks what an own template prints, whatever value it prints where', async (t) => {
  const own = t.testdir({
    'stage1.ipxe': "#!ipxe\necho {{ kernelArguments | join: ' || shell ' }}\n",
  })
  t.throws(() => loadTemplates([own, folder]), { message: /a value holds "\|\|", which separates commands/ })
})

t.test('an own folder replaces single templates; what it does not have comes from the next', async (t) => {
  const own = t.testdir({
    'held.ipxe': '#!ipxe\necho {{ host }} waits\nsleep 60 ||\nexit 2\n',
    'README.md': '-',
  })
  const mixed = loadTemplates([`${own}/absent`, own, folder])
  t.equal(
    mixed.render('held.ipxe', { host: 'n1', attempts: 3 }),
    '#!ipxe\necho n1 waits\nsleep 60 ||\nexit 2\n',
  )
  t.match(mixed.render('local-boot.ipxe', { host: 'n1', uefi: true }), 'exit 0')
})

t.test(
  'the opening comment of each template names its variables: those it uses, those it is given',
  async (t) => {
    const engine = createEngine()
    for (const name of templateNames) {
      const text = readFileSync(`${folder}${name}`, 'utf8')
      const comment = /^\{%- comment -%\}\n([\s\S]*?)\n\{%- endcomment -%\}\n#!/.exec(text)?.[1] ?? ''
      const documented = comment.slice(comment.indexOf('\n\n')).match(/^\w+(?=: )/gm) ?? []
      t.strictSame(documented, Object.keys(templateVariables[name]), `${name}: comment and type`)
      t.strictSame(
        documented.toSorted(),
        engine.globalVariablesSync(engine.parse(text)).toSorted(),
        `${name}: comment and use`,
      )
    }
    t.strictSame(readdirSync(folder).sort(), [...templateNames].sort(), 'every file is a template')
  },
)

t.test('renders to the golden files, byte for byte', async (t) => {
  t.strictSame(readdirSync(goldenFolder).sort(), Object.keys(golden).sort())
  t.strictSame([...new Set(Object.values(golden).map(({ name }) => name))].sort(), [...templateNames].sort())
  for (const [file, { name, variables }] of Object.entries(golden)) {
    t.equal(render(name, variables), readFileSync(`${goldenFolder}${file}`, 'utf8'), file)
  }
})

t.test('every script that is served', async (t) => {
  const secrets = ['-CAPABILITY-', '-HANDOVER-', '-SECRET-']
  for (const [file, { name, variables }] of Object.entries(golden)) {
    const script = render(name, variables)
    t.match(script, /^#!(ipxe|\/bin\/sh)\n[\n -~]*\n$/, `${file} is printable ASCII and ends with a line end`)
    if (!name.endsWith('.ipxe')) continue
    const commands = readScript(script)
    t.strictSame(missingLabels(commands), [], `${file}: every goto has its label`)
    const words = commands.flatMap((command) => command.words)
    for (const word of words.filter((word) => secrets.some((secret) => word.includes(secret)))) {
      t.match(
        word,
        /^https:\/\/[^?]*\?.*-(CAPABILITY|HANDOVER|SECRET)-/,
        `${file}: secrets stand in queries only`,
      )
      t.notMatch(word.split('?')[0] ?? '', /-(CAPABILITY|HANDOVER|SECRET)-/)
    }
    if (name === 'epoxy-stage1.ipxe') continue
    const mayEndALine = new Set(['echo', 'set', 'inc', 'goto', 'imgfree', 'exit', undefined])
    for (const [at, { words }] of commands.entries()) {
      if (commands[at + 1] !== undefined && commands[at + 1]?.after !== 'start') continue
      t.ok(
        mayEndALine.has(words[0]),
        `${file}: a line that ends with ${words[0]} cannot end the script by failing`,
      )
    }
  }
})

/** Follows a site script from where an iPXE error is told apart to the label it ends at, with the errno that chain left. */
function reactionTo(script: string, errno: string): string {
  const commands = readScript(script)
  const from = commands.findIndex(({ words }) => words[0] === 'set' && words[1] === 'pawl-error')
  let ok = true
  for (const { after, words } of commands.slice(from + 1)) {
    if (after === '||' ? ok : after === '&&' && !ok) continue
    if (words[0] === 'goto') return words[1] ?? ''
    ok = words[0] !== 'iseq' || errno === words[2]
  }
  return ''
}

t.test(
  'the site script tells errors apart, under UEFI and under BIOS, and never takes a refusal for absence',
  async (t) => {
    const script = readFileSync(`${goldenFolder}autoexec-node-local.ipxe`, 'utf8')
    const reactions: [uefi: string, bios: string, what: string, label: string][] = [
      ['00000001', '00000001', 'a script that failed', 'reached'],
      ['00000002', '00000002', 'a script that has waited', 'waited'],
      ['410c618f', '410c613c', '403', 'refused'],
      ['020c618f', '020c613c', '401', 'refused'],
      ['2d0c618e', '2d0c613b', '404', 'not_pawl'],
      ['1d0c6498', '1d0c6439', 'other 4xx', 'malformed'],
      ['1d0c6598', '1d0c6539', '5xx', 'unable'],
      ['2e008081', '2e008001', 'not a script', 'not_pawl'],
      ['0216eb8f', '0216eb3c', 'certificate not trusted', 'untrusted'],
      ['3e11618e', '3e11613b', 'no such name', 'no_name'],
      ['0f0a6095', '0f0a6039', 'connection reset', 'absent'],
      ['4c072092', '4c072035', 'connection timed out', 'absent'],
    ]
    for (const [uefi, bios, what, label] of reactions) {
      t.equal(reactionTo(script, uefi), label, `${what} under UEFI`)
      t.equal(reactionTo(script, bios), label, `${what} under BIOS`)
    }
    const sections = script.split(/\n(?=:)/)
    for (const label of ['refused', 'not_pawl', 'malformed', 'reached']) {
      const section = sections.find((section) => section.startsWith(`:${label}\n`)) ?? ''
      t.notMatch(section, /goto (absent|server_absent|local_disk)/, `${label} does not count as absence`)
    }
  },
)
