import fc from 'fast-check'
import t from 'tap'
import { PawlError } from '../../src/errors.ts'
import { loadTemplates } from '../../src/templates/load.ts'
import { exampleVariables, type TemplateName } from '../../src/templates/variables.ts'
import { golden } from './golden.ts'
import { expand, expansions, readScript } from './ipxe-model.ts'

const templates = loadTemplates([new URL('../../ipxe-templates/', import.meta.url).pathname])

/** Renders with values whose types are not checked: tests give wrong ones. */
function render(name: TemplateName, variables: Readonly<Record<string, unknown>>): string {
  return (templates.render as (name: string, variables: unknown) => string)(name, variables)
}

t.test('the model of iPXE reads lines as iPXE does', async (t) => {
  const read = (line: string): unknown[] =>
    readScript(line).map(({ label, after, words }) => [label, after, ...words])
  t.strictSame(read('a b || c && d ; e'), [
    [undefined, 'start', 'a', 'b'],
    [undefined, '||', 'c'],
    [undefined, '&&', 'd'],
    [undefined, ';', 'e'],
  ])
  t.strictSame(
    read('a||b #c || d'),
    [[undefined, 'start', 'a||b']],
    'separators are words; a comment ends the line',
  )
  t.strictSame(read('a b#c'), [[undefined, 'start', 'a', 'b#c']])
  t.strictSame(read(' :l a'), [['l', 'start', 'a']])
  t.strictSame(read('a \\\nb'), [[undefined, 'start', 'a', 'b']])
  t.strictSame(read('a ||'), [
    [undefined, 'start', 'a'],
    [undefined, '||'],
  ])
  t.strictSame(read('\n# x\n'), [])
  t.equal(expand('x$' + '{a}', { a: '$' + '{b}', b: '; y' }), 'x; y', 'again and again, in one word')
  t.equal(expand('$' + '{a$' + '{b}}', { ab: 'inner first', b: 'b' }), 'inner first')
  t.equal(expand('$' + '{a', {}), '$' + '{a')
})

/**
 * What must not depend on any value. In an iPXE script labels, commands, how many words each has, and what is expanded; in a
 * shell script every character that means anything to a shell.
 */
function shapeOf(script: string): string {
  if (script.startsWith('#!/bin/sh\n')) return script.replace(/[A-Za-z0-9._,:/@%+=[\]-]+/g, 'word')
  const shape = readScript(script).map(({ label, after, words }) => [label, after, words[0], words.length])
  return JSON.stringify({ shape, expansions: expansions(script), lines: script.split('\n').length })
}

/** A template may do one thing for IPv6 and another for IPv4, by these signs: which it is stays, as emptiness does. */
const calmIpv6: Readonly<Record<string, { readonly sign: string; readonly value: string }>> = {
  publicUrl: { sign: '[', value: 'https://[2001:db8::7]:8443' },
  address: { sign: ':', value: '2001:db8::7' },
}

/** An entry of a list with harmless values: which of its fields are empty, and how long its own lists are, stays. */
function calmEntry(entry: unknown, example: unknown): unknown {
  if (typeof entry !== 'object' || entry === null) return example
  const calm = (field: string, value: unknown): unknown =>
    Array.isArray(value) ? value.map(() => 'word') : value && (example as Record<string, unknown>)[field]
  return Object.fromEntries(Object.entries(entry).map(([field, value]) => [field, calm(field, value)]))
}

/** The same case of a template with harmless values: flags, address families, emptiness and lengths of lists stay. */
function harmless(name: TemplateName, variables: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const examples = exampleVariables(name)[0] ?? {}
  const calm = ([field, value]: [string, unknown]): [string, unknown] => {
    const ipv6 = calmIpv6[field]
    const isIpv6 = ipv6 !== undefined && typeof value === 'string' && value.includes(ipv6.sign)
    const example = isIpv6 ? ipv6.value : examples[field]
    if (Array.isArray(value) && Array.isArray(example))
      return [field, value.map((entry) => calmEntry(entry, example[0]))]
    return [
      field,
      typeof value === 'string' && value !== '' && field !== 'whenServerAbsent' ? example : value,
    ]
  }
  return Object.fromEntries(Object.entries(variables).map(calm))
}

const hostile = fc.constantFrom(
  ...[
    '\n',
    '\r',
    '\r\n',
    '\t',
    '\v',
    ' ',
    '  ',
    '#',
    ' #',
    '||',
    ' || ',
    ' && ',
    ';',
    ' ; ',
    '\\',
    '\\\n',
    '$',
    '{',
    '}',
  ],
  ...[
    '$' + '{',
    '$' + '{mac}',
    '$' + '{$' + '{x}}',
    '"',
    "'",
    '`',
    '$(reboot)',
    '\0',
    '\x7f',
    'é',
    '\u2028',
    '\ud800',
    '%0a',
  ],
  ...[
    '\nshell\n',
    '\n:again\n',
    ':again',
    '-',
    '--name',
    '{{ host }}',
    '{% raw %}',
    'shell',
    'END_OF_JOIN',
    '\nEND_OF_JOIN\n',
  ],
)
const text = fc.oneof(
  hostile,
  fc.string({ unit: 'binary' }),
  fc.string(),
  fc.constantFrom('', 'word', 'a.b:c/d'),
)

/** A good value with something hostile in it, or any text, or anything at all. */
function fuzzed(value: unknown): fc.Arbitrary<unknown> {
  const put = (good: string): fc.Arbitrary<unknown> =>
    fc
      .tuple(hostile, fc.nat({ max: good.length }))
      .map(([bad, at]) => good.slice(0, at) + bad + good.slice(at))
  if (typeof value === 'string') return fc.oneof(put(value), put(value), text, fc.anything())
  if (Array.isArray(value)) {
    const entry = fc.oneof(text, fc.record({ name: text, value: text }), fc.anything())
    return fc.oneof(fc.array(entry, { maxLength: 4 }), fc.array(fc.stringMatching(/^[a-z=.,-]{1,9}$/)))
  }
  return fc.anything()
}

t.test('for any values a script is refused or has the commands it has with harmless ones', async (t) => {
  const cases = Object.values(golden).flatMap(({ name, variables }) =>
    Object.entries(variables).map(([field, value]) => ({ name, variables, field, value })),
  )
  const arbitrary = fc
    .constantFrom(...cases)
    .chain(({ name, variables, field, value }) =>
      fuzzed(value).map((bad) => ({ name, variables: { ...variables, [field]: bad } })),
    )
  let rendered = 0
  fc.assert(
    fc.property(arbitrary, ({ name, variables }) => {
      let script: string
      try {
        script = render(name, variables)
      } catch (error) {
        return error instanceof PawlError && (error.code === 'render-failed' || error.code === 'invalid')
      }
      rendered += 1
      const calm = shapeOf(render(name, harmless(name, variables)))
      return shapeOf(script) === calm && /^[\n -~]*$/.test(script)
    }),
    { numRuns: 2000 },
  )
  t.ok(rendered > 50, `${rendered} of 2000 were rendered, so the comparison was made`)
})

t.test('that property would find an injection', async (t) => {
  const shape = (host: string): string => shapeOf(`#!ipxe\necho ${host}\nsleep 60 ||\n`)
  for (const host of ['a\nshell', 'a ; shell', '# a', 'a\\', '$' + '{x}', 'a b'])
    t.notSame(shape(host), shape('a'), host)
  t.same(shape('b'), shape('a'))
})
