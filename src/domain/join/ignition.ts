import { isPawlError, PawlError } from '../../errors.ts'
import Type, { Compile, type Static } from '../schema.ts'
import { type DocumentValues, documentFault, renderDocument } from './document.ts'
import type { JoinKind } from './kind.ts'

const settings = Type.Object(
  {
    /** An Ignition configuration, JSON, spec 3.x. Either this or `secretConfig`. */
    config: Type.Optional(Type.String({ minLength: 2, maxLength: 65_536 })),
    /** The same where it holds a secret: sealed, and shown as `***`. */
    secretConfig: Type.Optional(Type.String({ minLength: 2, maxLength: 65_536 })),
  },
  { additionalProperties: false },
)

export type IgnitionSettings = Static<typeof settings>

const path = Type.String({ pattern: '^/' })
const source = Type.Object({
  source: Type.Optional(
    Type.Union([Type.Null(), Type.String({ pattern: '^(data:|https?://|tftp://|s3://|gs://|arn:)' })]),
  ),
})
const mode = Type.Integer({ minimum: 0, maximum: 0o7777 })

/** What a schema can say of Ignition 3.x: sections and fields that every configuration has to have right. The rest is Ignition's. */
const configuration = Type.Object(
  {
    ignition: Type.Object({ version: Type.String({ pattern: '^3\\.[0-9]{1,2}\\.[0-9]{1,2}$' }) }),
    storage: Type.Optional(
      Type.Object({
        files: Type.Optional(
          Type.Array(
            Type.Object({
              path,
              mode: Type.Optional(mode),
              overwrite: Type.Optional(Type.Boolean()),
              contents: Type.Optional(source),
              append: Type.Optional(Type.Array(source)),
            }),
          ),
        ),
        directories: Type.Optional(Type.Array(Type.Object({ path, mode: Type.Optional(mode) }))),
        links: Type.Optional(Type.Array(Type.Object({ path, target: Type.Optional(Type.String()) }))),
        disks: Type.Optional(Type.Array(Type.Object({ device: path }))),
        filesystems: Type.Optional(Type.Array(Type.Object({ device: path }))),
      }),
    ),
    systemd: Type.Optional(
      Type.Object({
        units: Type.Optional(
          Type.Array(
            Type.Object({
              name: Type.String({
                pattern:
                  '^[^/]+\\.(service|socket|device|mount|automount|swap|target|path|timer|snapshot|slice|scope)$',
              }),
              enabled: Type.Optional(Type.Boolean()),
              mask: Type.Optional(Type.Boolean()),
              contents: Type.Optional(Type.String()),
            }),
          ),
        ),
      }),
    ),
    passwd: Type.Optional(
      Type.Object({
        users: Type.Optional(
          Type.Array(
            Type.Object({
              name: Type.String({ minLength: 1 }),
              sshAuthorizedKeys: Type.Optional(Type.Array(Type.String())),
            }),
          ),
        ),
        groups: Type.Optional(Type.Array(Type.Object({ name: Type.String({ minLength: 1 }) }))),
      }),
    ),
    kernelArguments: Type.Optional(Type.Object({})),
  },
  { additionalProperties: false },
)

const compiled = Compile(configuration)

/** Gives a node an Ignition configuration: in its initramfs where that has Ignition, else with ignition-apply in the full system. */
export const ignition: JoinKind<typeof settings> = {
  settings,
  secretSettings: ['secretConfig'],
  template: 'join-ignition.sh',
  variables: () => ({}), // what it is given is of the boot: boot/join-seed.ts
  credential: () => 'static',
  fault(written) {
    if ((written.config === undefined) === (written.secretConfig === undefined))
      return { at: 'config', message: 'or secretConfig is needed: one of the two' }
    const at = written.config === undefined ? 'secretConfig' : 'config'
    return documentFault(at, written.config ?? written.secretConfig ?? '', checkConfiguration)
  },
}

/** Throws `render-failed` naming the field. */
function checkConfiguration(text: string): void {
  const value = parse(text)
  if (compiled.Check(value)) return
  const [error] = compiled.Errors(value)
  const where =
    error === undefined || error.instancePath === ''
      ? 'its top'
      : error.instancePath.slice(1).replaceAll('/', '.')
  throw new PawlError(
    'render-failed',
    `is not an Ignition configuration of spec 3.x: ${where.slice(0, 200)} ${wordsOf(error?.message)}`.trim(),
  )
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // What V8 says of it quotes the text, which may be a secret.
    throw new PawlError('render-failed', 'is not JSON')
  }
}

/** Renders the configuration with a node's values; throws `render-failed` naming the setting. */
export function renderIgnition(given: IgnitionSettings, values: DocumentValues): string {
  const at = given.config === undefined ? 'secretConfig' : 'config'
  try {
    const text = renderDocument(given.config ?? given.secretConfig ?? '', values)
    checkConfiguration(text)
    return text
  } catch (error) {
    throw isPawlError(error) ? new PawlError('render-failed', `join: settings.${at} ${error.message}`) : error
  }
}

function wordsOf(message = ''): string {
  return message === 'schema is false' ? 'is none of its fields' : message
}
