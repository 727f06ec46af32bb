/**
 * The file of a backup: a plain tar of regular files, in this order.
 *
 *     pawl-backup.json             what made it, when, and what it leaves out
 *     database/NNNNN.ndjson.zst    rows of one table: a line with its name, then a JSON object a line
 *     data/…                       the data folder: CA, keys, settings, templates
 *     artifacts/sha256/<64 hex>    the images' files
 *     manifest.json                every member before it, with size and SHA-256
 *
 * The manifest comes last, so that a file that was cut off has none. The database is rows and not SQLite's own file, so that
 * it can be restored into either database.
 */
import Type, { Compile, type Static } from '../domain/schema.ts'
import { PawlError } from '../errors.ts'

/** The first and the last member. */
export const headerName = 'pawl-backup.json'
export const manifestName = 'manifest.json'

/** No member but an artifact is larger, packed or unpacked. */
export const maxMemberBytes = 64 * 2 ** 20
/** Rows are packed in pieces of about this size. */
export const chunkBytes = 8 * 2 ** 20
export const maxMembers = 1_000_000

const text = (maxLength: number) => Type.String({ maxLength })
const headerSchema = Type.Object(
  {
    format: Type.Literal('pawl.backup/v1'),
    version: text(64),
    createdAt: text(64),
    database: Type.Union([Type.Literal('sqlite'), Type.Literal('postgres')]),
    migrations: Type.Array(text(200), { minItems: 1, maxItems: 10_000 }),
    /** `elsewhere`: in object storage, which has backups of its own. */
    artifacts: Type.Union([Type.Literal('included'), Type.Literal('left-out'), Type.Literal('elsewhere')]),
  },
  { additionalProperties: false },
)
const manifestSchema = Type.Object(
  {
    members: Type.Array(
      Type.Object(
        {
          name: text(512),
          size: Type.Integer({ minimum: 0 }),
          sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
        },
        { additionalProperties: false },
      ),
      { maxItems: maxMembers },
    ),
    /** Rows by table. */
    rows: Type.Record(Type.String({ pattern: '^[a-z_][a-z0-9_]{0,62}$' }), Type.Integer({ minimum: 0 })),
  },
  { additionalProperties: false },
)

/** What a backup says of itself at its beginning. */
export type BackupHeader = Static<typeof headerSchema>
/** What it says at its end. */
export type BackupManifest = Static<typeof manifestSchema>
/** One member as the manifest has it. */
export type Member = BackupManifest['members'][number]

const header = Compile(headerSchema)
const manifest = Compile(manifestSchema)

/** Reads the first member; throws `invalid`. */
export function parseHeader(json: string): BackupHeader {
  const value = parseJson(json, headerName)
  if (header.Check(value)) return value
  const format = (value as { format?: unknown } | null)?.format
  if (typeof format === 'string' && /^pawl\.backup\/v\d+$/.test(format) && format !== 'pawl.backup/v1') {
    throw damaged(
      `its format is ${format}, which this Pawl does not know`,
      'restore it with the Pawl that made it',
    )
  }
  throw damaged(`its ${headerName} is not of the right form`)
}

/** Reads the last member; throws `invalid`. */
export function parseManifest(json: string): BackupManifest {
  const value = parseJson(json, manifestName)
  if (manifest.Check(value)) return value
  throw damaged(`its ${manifestName} is not of the right form`)
}

/** Where a member belongs: `undefined` for a name that no backup has. */
export function kindOf(name: string): 'header' | 'manifest' | 'database' | 'data' | 'artifact' | undefined {
  if (name === headerName) return 'header'
  if (name === manifestName) return 'manifest'
  if (/^database\/\d{5}\.ndjson\.zst$/.test(name)) return 'database'
  if (/^artifacts\/sha256\/[0-9a-f]{64}$/.test(name)) return 'artifact'
  return isDataName(name) ? 'data' : undefined
}

/** The name that a file of the data folder has in a backup; undefined for one that cannot be in it. */
export function dataName(path: string): string | undefined {
  const name = `data/${path}`
  return isDataName(name) ? name : undefined
}

/** Names of ours and of whoever made templates: nothing that leads out of the folder, nor to what the server makes itself. */
function isDataName(name: string): boolean {
  const [first, ...path] = name.split('/')
  const isPlain = path.every((part) => /^[\w@+][\w@+.-]{0,99}$/.test(part) && !part.endsWith('.tmp'))
  return first === 'data' && path.length >= 1 && path.length <= 6 && isPlain && !isLeftOut(path[0] ?? '')
}

/** What at the top of a data folder is not copied: the database and the artifacts go in other ways, the rest is of a run. */
export function isLeftOut(name: string): boolean {
  return (
    /^pawl\.db(-\w+)?$/.test(name) ||
    ['artifacts', 'spool', 'server.json', 'lost+found'].includes(name) ||
    /^downgrade-[\w.-]+\.tar$/.test(name)
  )
}

/** What is wrong with a backup file. */
export function damaged(fault: string, hint = 'take another backup; nothing was put in place'): PawlError {
  return new PawlError('invalid', `this is no whole backup: ${fault}`, { hint })
}

function parseJson(json: string, name: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    throw damaged(`its ${name} is not JSON`)
  }
}
