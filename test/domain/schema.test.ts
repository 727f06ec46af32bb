import t from 'tap'
import typebox from 'typebox'
import { Compile as compileType } from 'typebox/compile'
import { profileSchema } from '../../src/domain/profile.ts'
import Type, { Compile } from '../../src/domain/schema.ts'

/** The same schema by ours and by typebox's functions. */
type Written = (type: typeof Type) => object

const written: Readonly<Record<string, Written>> = {
  array: (type) => type.Array(type.String({ maxLength: 3 }), { minItems: 1, uniqueItems: true }),
  boolean: (type) => type.Boolean({ description: 'whether' }),
  integer: (type) => type.Integer({ minimum: 0, maximum: 9 }),
  'literal text': (type) => type.Literal('one', { title: 'One' }),
  'literal number': (type) => type.Literal(1),
  'literal boolean': (type) => type.Literal(true),
  null: (type) => type.Null(),
  number: (type) => type.Number({ exclusiveMinimum: 0 }),
  'object of nothing': (type) => type.Object({}, { additionalProperties: false }),
  'object with what may be left out': (type) =>
    type.Object({ one: type.String(), two: type.Optional(type.Integer()) }, { $id: 'Two', title: 'Two' }),
  'object where all may be left out': (type) => type.Object({ one: type.Optional(type.Null()) }),
  'optional of what has a mark': (type) => type.Optional(type.Unsafe(type.String())),
  'record of texts': (type) => type.Record(type.String(), type.Unknown()),
  'record of a pattern': (type) =>
    type.Record(type.String({ pattern: '^[a-z]{1,3}$' }), type.Integer(), { maxProperties: 2 }),
  string: (type) => type.String({ pattern: '^a+$', maxLength: 64, description: 'letters' }),
  union: (type) => type.Union([type.Literal('a'), type.Array(type.String())], { description: 'either' }),
  unknown: (type) => type.Unknown({ description: 'anything' }),
  'unsafe of no type': (type) => type.Unsafe({ type: 'string', enum: ['a', 'b'] }),
}

t.test('a schema is what typebox makes of it, marks included', async (t) => {
  for (const [name, write] of Object.entries(written)) {
    t.strictSame(described(write(Type)), described(write(typebox)), name)
  }
  const tried = new Set(Object.values(written).flatMap((write) => write.toString().match(/type\.(\w+)/g)))
  for (const name of Object.keys(Type)) t.ok(tried.has(`type.${name}`), `${name} is compared`)
})

t.test('what is checked, and what is told of it, is what typebox says', async (t) => {
  const values: unknown[] = [
    undefined,
    null,
    {},
    { name: 'p', boot: 'local' },
    { name: 'P', boot: 'local', more: 1 },
    { name: 'p', boot: { stage2: 'a@1', stage3: 'b@1', join: { kind: 'none' } } },
    { name: 'p', boot: { stage2: 'a@1', stage3: 'b@1', join: { kind: 'k3s', settings: { server: 1 } } } },
  ]
  const ours = Compile(profileSchema)
  const theirs = compileType(profileSchema)
  for (const value of values) {
    const said = JSON.stringify(value) ?? 'undefined'
    t.equal(ours.Check(value), theirs.Check(value), said)
    t.strictSame(ours.Errors(value), theirs.Errors(value), said)
  }
  t.ok(ours.Check({ name: 'p', boot: 'local' }), 'both say yes to something')
})

/** All of it, with what JSON does not show. */
function described(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const fields = Object.entries(Object.getOwnPropertyDescriptors(value)).map(([name, field]) => [
    name,
    { ...field, value: described(field.value) },
  ])
  return { list: Array.isArray(value), fields: Object.fromEntries(fields) }
}
