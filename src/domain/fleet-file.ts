import { extensionFields } from './extension-file.ts'
import { overlayKinds, overlaySchema } from './join/overlay.ts'
import { joinKinds, joinSchema } from './join.ts'
import { type Leave, leaveSchema, rebootSchema, secretOfHook } from './leave.ts'
import { profileSchema } from './profile.ts'
import Type, { type TSchema } from './schema.ts'
import { secretSources } from './secret-source.ts'

/**
 * The documents of fleet files, as schemas: `pawl diff` and `pawl apply` check files against them, and editors do by
 * `docs/fleet.schema.json`. What a schema cannot say (that a profile exists, that a MAC address is nobody else's) the
 * server checks.
 */

const strict = { additionalProperties: false } as const

function described<S extends TSchema>(schema: S, description: string): S {
  // A copy of its own: the same schema stands elsewhere without these words.
  return { ...schema, description }
}

const orNull = (schema: TSchema, description: string): TSchema =>
  Type.Union([schema, Type.Null()], { description: `${description} null clears it.` })

const profileName = Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,62}$' })
const joinName = Type.String({
  pattern: '^[a-z0-9][a-z0-9-]{0,62}$',
  description: 'The name of a document of kind Join.',
})

const nodeFields = {
  addresses: Type.Array(Type.String({ maxLength: 64 }), {
    maxItems: 64,
    description: 'IP addresses and prefixes of the machine; the whole list.',
  }),
  macs: Type.Array(Type.String({ maxLength: 17 }), {
    maxItems: 32,
    description: 'MAC addresses of its NICs; the whole list.',
  }),
  uuid: orNull(Type.String({ maxLength: 36 }), 'The SMBIOS system UUID.'),
  serial: orNull(Type.String({ maxLength: 128 }), 'The chassis serial number.'),
  profile: orNull(profileName, 'What it boots: the name of a profile.'),
  labels: Type.Record(Type.String(), Type.String({ maxLength: 63 }), {
    description: 'KEY: VALUE; labels that no file names are left alone.',
  }),
}

const nodeName = Type.String({ maxLength: 253, description: "The node's host name." })

const optional = <Fields extends Record<string, TSchema>>(fields: Fields): Record<string, TSchema> =>
  Object.fromEntries(Object.entries(fields).map(([name, schema]) => [name, Type.Optional(schema)]))

const nodeDocument = Type.Object(
  { kind: Type.Literal('Node'), name: nodeName, ...optional(nodeFields) },
  { ...strict, description: 'One node.' },
)

const nodesDocument = Type.Object(
  {
    kind: Type.Literal('Nodes'),
    defaults: Type.Optional(
      Type.Object(optional(nodeFields), {
        ...strict,
        description: 'What holds for each node of the list that does not say otherwise. Labels are merged.',
      }),
    ),
    nodes: Type.Array(Type.Object({ name: nodeName, ...optional(nodeFields) }, strict), {
      maxItems: 20_000,
      description: 'Many nodes.',
    }),
  },
  { ...strict, description: 'Many nodes, with what they have in common.' },
)

const channelDocument = Type.Object(
  {
    kind: Type.Literal('Channel'),
    name: Type.String({ pattern: '^[^/]+/[^/]+$', maxLength: 130, description: 'image/channel.' }),
    version: Type.Optional(
      Type.String({ maxLength: 130, description: 'Where it points. Left out, others move it.' }),
    ),
    twoPerson: Type.Optional(
      Type.Boolean({ description: 'Its moves want a second person. Needs the role admin.' }),
    ),
    requireTest: Type.Optional(
      Type.Boolean({ description: 'It takes only versions whose last test passed. Needs the role admin.' }),
    ),
  },
  { ...strict, description: 'A named pointer to a version of an image.' },
)

interface JoinForm {
  readonly properties: Readonly<Record<string, TSchema>> & { readonly kind: { readonly const: string } }
  readonly required: readonly string[]
}

/** The ways to join, each secret also by where it comes from. */
function joinForms(): TSchema[] {
  return (joinSchema.anyOf as unknown as JoinForm[]).map((form) => {
    const { kind, settings } = form.properties
    const { secretSettings } = joinKinds[kind.const as keyof typeof joinKinds]
    const own = settings as TSchema & Partial<JoinForm>
    return withFields(form, {
      settings: own.properties === undefined ? own : withSources(own as unknown as JoinForm, secretSettings),
      overlay: overlayForms(),
    })
  })
}

/** The networks to join before, in the same way. */
function overlayForms(): TSchema {
  return Type.Union(
    (overlaySchema.anyOf as unknown as JoinForm[]).map((one) =>
      withSources(one, overlayKinds[one.properties.kind.const as keyof typeof overlayKinds].secretSettings),
    ),
  )
}

/** A hook, its secret also by where it comes from. */
function hookForm(form: unknown): TSchema {
  const hook = form as JoinForm
  return withSources(hook, [secretOfHook({ kind: hook.properties.kind.const as Leave['kind'] })])
}

/** The form with each of these fields also by where it comes from. */
function withSources(form: JoinForm, names: readonly string[]): TSchema {
  const changed = names.map((name) => [
    name,
    Type.Union([form.properties[name] as TSchema, ...secretSources]),
  ])
  return withFields(form, Object.fromEntries(changed))
}

function withFields({ properties, required = [] }: JoinForm, changed: Record<string, TSchema>): TSchema {
  const fields = Object.entries({ ...(properties as Record<string, TSchema>), ...changed })
  return Type.Object(
    Object.fromEntries(
      fields.map(([name, schema]) => [name, required.includes(name) ? schema : Type.Optional({ ...schema })]),
    ),
    strict,
  )
}

const joinDocument = Type.Object(
  {
    kind: Type.Literal('Join'),
    name: joinName,
    join: Type.Union(joinForms(), { description: 'How nodes join their cluster.' }),
  },
  { ...strict, description: 'Join settings that several profiles share, by `join: {from: NAME}`.' },
)

const words: Readonly<Record<keyof (typeof profileSchema)['properties'], string>> = {
  name: "The profile's name.",
  tokens: 'native, or epoxy for images of ePoxy.',
  evidence: 'What proves that it is the machine it says.',
  acceptAddressOnly: 'Accepts what an address alone gives up (SECURITY.md).',
  acceptAutoApproved: 'Machines that a rule approved may get what this profile hands out to join.',
  whenFactsChange: 'record, or refuse a machine that tells another UUID, serial number or MAC address.',
  secrets: 'static, or rotating: each boot replaces the enrolment secret on the boot medium.',
  armed: 'Each boot of a ready node must be allowed by an operator.',
  downloads: 'session: private to a boot. digest: cacheable, readable by anyone who reaches it.',
  redirects: 'Agents are sent to the object storage for the stage-3 image.',
  artifactBase:
    'A cache of artifacts near the machines: one URL, or one for each value of the label site. Needs downloads: digest.',
  whenServerAbsent: 'What the site script does when the server does not answer.',
  kernelArguments: "Appended to the image's. Reserved ones need the role admin.",
  acceptUnsigned: 'Boots images that no publisher signed.',
  publishers: "Whose signatures count; left out, every publisher's.",
  imgverify: 'iPXE checks signatures itself, where its build can.',
  extensions: 'Operations that its nodes may ask extension services for.',
  joinFromExtension: 'What an extension answers may be the join that a node runs.',
  expect: 'Seconds that stages may take before a boot is slow, for both sequences or for each; else learned.',
  identity:
    'Whom its nodes are given identity documents for, which labels are in them, and how long they are good.',
  leave: 'How its nodes leave their cluster before they are reinstalled.',
  reboot: 'Who reboots its nodes then; left out, the operator.',
  boot: 'What a boot serves.',
  reinstall: 'What a reinstall serves.',
}

/** A sequence whose join may be named, and whose secrets may come from elsewhere. */
function sequenceForms(sequence: { anyOf?: readonly unknown[] }, from: boolean): TSchema {
  const named = Type.Object(
    { from: joinName },
    { ...strict, description: 'A join of a document of its own.' },
  )
  const forms = (sequence.anyOf ?? []).map((form) => {
    const { properties } = form as { properties?: Record<string, TSchema> }
    if (properties?.join === undefined) return form as TSchema
    const join = Type.Optional(Type.Union(from ? [named, ...joinForms()] : joinForms()))
    return Type.Object({ ...properties, join }, strict)
  })
  return Type.Union(forms)
}

/** What takes the place of a field of the profile, where secrets of it come from elsewhere. */
function formOfField(name: string, schema: unknown, from: boolean): TSchema {
  if (name === 'boot' || name === 'reinstall') return sequenceForms(schema as object, from)
  if (name === 'leave') return Type.Union(leaveSchema.anyOf.map((form) => hookForm(form)))
  return name === 'reboot' ? hookForm(rebootSchema) : (schema as TSchema)
}

function profileFields(from: boolean): Record<string, TSchema> {
  return Object.fromEntries(
    Object.entries(profileSchema.properties).map(([name, schema]) => {
      const told = described(formOfField(name, schema, from), words[name as keyof typeof words])
      return [name, profileSchema.required.includes(name as never) ? told : Type.Optional(told)]
    }),
  )
}

const profileDocument = Type.Object(
  { kind: Type.Literal('Profile'), ...profileFields(true) },
  { ...strict, description: 'What a kind of node boots. Its fields are those of pawl profile apply.' },
)

const extensionDocument = Type.Object(
  { kind: Type.Literal('Extension'), ...extensionFields },
  {
    ...strict,
    description:
      'A service that booting nodes may ask. Its fields are those of pawl extension apply. Needs the role admin.',
  },
)

/** A profile in a file of its own, for `pawl profile apply`: `***` keeps a stored secret. */
export const profileFileSchema = Type.Object(profileFields(false), strict)

/** Each kind of document. */
export const documentSchemas = {
  Node: nodeDocument,
  Nodes: nodesDocument,
  Profile: profileDocument,
  Channel: channelDocument,
  Join: joinDocument,
  Extension: extensionDocument,
} as const

/** A kind of document. */
export type DocumentKind = keyof typeof documentSchemas

/** The JSON Schema of a document of a fleet file, for editors. */
export function fleetFileSchema(): Record<string, unknown> {
  const overlay = named('overlay', overlayForms())
  const joins = joinForms().map((form) =>
    named(`join-${(form as unknown as JoinForm).properties.kind.const}`, form),
  )
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Pawl fleet file',
    description: 'A document of the files that `pawl diff` and `pawl apply` read.',
    oneOf: Object.values(documentSchemas).map((schema) => byName(plain(schema), [...joins, overlay])),
    $defs: Object.fromEntries([
      ...joins.map(({ name, schema }) => [name, byName(schema, [overlay])]),
      [overlay.name, overlay.schema],
    ]),
  }
}

/** What stands in many places of the schema, and is written once. */
interface Named {
  readonly name: string
  readonly text: string
  readonly schema: unknown
}

function named(name: string, schema: TSchema): Named {
  return { name, text: JSON.stringify(schema), schema: plain(schema) }
}

/** Plain data: what typebox keeps beside a schema is of no use to editors. */
function plain(schema: TSchema): unknown {
  return JSON.parse(JSON.stringify(schema)) as unknown
}

function byName(schema: unknown, shared: readonly Named[]): unknown {
  if (typeof schema !== 'object' || schema === null) return schema
  if (Array.isArray(schema)) return schema.map((one) => byName(one, shared))
  const text = JSON.stringify(schema)
  const known = shared.find((one) => one.text === text)
  if (known !== undefined) return { $ref: `#/$defs/${known.name}` }
  return Object.fromEntries(Object.entries(schema).map(([key, one]) => [key, byName(one, shared)]))
}
