import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { zstdCompressSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { pack } from 'tar-stream'
import { rowsOf } from '../../src/backup/rows.ts'
import { unpack } from '../../src/backup/unpack.ts'
import { backup, install, restore, temporaryFolder } from './helpers.ts'

interface Entry {
  readonly name: string
  readonly body?: string | Uint8Array
  readonly type?: 'file' | 'symlink' | 'link' | 'directory' | 'character-device' | 'fifo'
  readonly linkname?: string
}

const sha256 = (body: string | Uint8Array): string => createHash('sha256').update(body).digest('hex')
const header = {
  format: 'pawl.backup/v1',
  version: '0.2.0',
  createdAt: 'x',
  database: 'sqlite',
  artifacts: 'left-out',
}
const first: Entry = {
  name: 'pawl-backup.json',
  body: JSON.stringify({ ...header, migrations: ['0001-first'] }),
}

/** The manifest of these members, as a backup has it. */
function manifestOf(entries: readonly Entry[], rows: Record<string, number> = {}): Entry {
  const members = entries.map(({ name, body = '' }) => ({
    name,
    size: Buffer.byteLength(body),
    sha256: sha256(body),
  }))
  return { name: 'manifest.json', body: JSON.stringify({ members, rows }) }
}

async function tar(entries: readonly Entry[]): Promise<Buffer> {
  const archive = pack()
  const parts: Uint8Array[] = []
  archive.on('data', (part: unknown) => parts.push(part as Uint8Array))
  const ended = new Promise<void>((resolve) => archive.once('end', () => resolve()))
  for (const { name, body = '', type = 'file', linkname } of entries) {
    await new Promise<void>((resolve, reject) =>
      archive.entry(
        { name, type, ...(linkname === undefined ? {} : { linkname }) },
        Buffer.from(body),
        (error) => (error ? reject(error) : resolve()),
      ),
    )
  }
  archive.finalize()
  await ended
  return Buffer.concat(parts)
}

/** Overwrites a field of the nth header, and mends its checksum. */
function edited(archive: Buffer, at: number, offset: number, bytes: string): Buffer {
  const copy = Buffer.from(archive)
  copy.write(bytes, at + offset, 'latin1')
  copy.write('        ', at + 148, 'latin1')
  const sum = copy.subarray(at, at + 512).reduce((total, byte) => total + byte, 0)
  copy.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1')
  return copy
}

function folderOf(t: Test): string {
  const folder = join(temporaryFolder(t), 'work')
  mkdirSync(folder)
  return folder
}

const whole = (entries: readonly Entry[]): Promise<Buffer> =>
  tar([first, ...entries, manifestOf([first, ...entries])])
const bad = (entry: Entry) => () => whole([entry])

const table: readonly [string, () => Promise<Buffer>, RegExp][] = [
  ['nothing', async () => Buffer.alloc(0), /it is empty, or no tar file/],
  ['no tar', async () => Buffer.from('this is no tar file, but text\n'.repeat(100)), /invalid tar header/],
  ['a name that leads out', bad({ name: 'data/../../etc/passwd' }), /is no name of a backup's/],
  ['an absolute name', bad({ name: '/etc/passwd' }), /is no name of a backup's/],
  ['a name with two dots inside', bad({ name: 'data/pki/../admin.token' }), /is no name of a backup's/],
  ['a hidden name', bad({ name: 'data/.restoring/moved.json' }), /is no name of a backup's/],
  ['a name with a zero byte', bad({ name: 'data/a\0b' }), /is no name of a backup's|is missing/],
  ['a name of another alphabet', bad({ name: 'data/\u202Etxt.key' }), /is no name of a backup's/],
  ['a backslash', bad({ name: 'data/..\\x' }), /is no name of a backup's/],
  ['a database file', bad({ name: 'data/pawl.db' }), /is no name of a backup's/],
  ['its write-ahead log', bad({ name: 'data/pawl.db-wal' }), /is no name of a backup's/],
  ['what the server writes', bad({ name: 'data/server.json' }), /is no name of a backup's/],
  ['a long name', bad({ name: `data/${'a'.repeat(300)}` }), /is no name of a backup's/],
  ['many folders', bad({ name: `data/${'a/'.repeat(20)}x` }), /is no name of a backup's/],
  ['a stray member', bad({ name: 'README' }), /"README" is no name of a backup's/],
  [
    'an artifact that is not named by a digest',
    bad({ name: 'artifacts/sha256/x' }),
    /is no name of a backup's/,
  ],
  [
    'a symbolic link',
    bad({ name: 'data/link', type: 'symlink', linkname: '/etc/passwd' }),
    /is a symlink, not a file/,
  ],
  [
    'a hard link',
    bad({ name: 'data/link', type: 'link', linkname: 'data/pawl.yaml' }),
    /is a link, not a file/,
  ],
  ['a device', bad({ name: 'data/null', type: 'character-device' }), /is a character-device, not a file/],
  ['a pipe', bad({ name: 'data/pipe', type: 'fifo' }), /is a fifo, not a file/],
  ['a folder', bad({ name: 'data/pki', type: 'directory' }), /is a directory, not a file/],
  [
    'a member twice',
    () =>
      whole([
        { name: 'data/a', body: '1' },
        { name: 'data/a', body: '2' },
      ]),
    /is in it twice/,
  ],
  [
    'a file where a folder is',
    () => whole([{ name: 'data/a' }, { name: 'data/a/b' }]),
    /EEXIST|ENOTDIR|no whole backup/,
  ],
  [
    'no header first',
    async () => tar([{ name: 'data/a' }, first, manifestOf([])]),
    /does not begin with its header/,
  ],
  ['a header later, too', async () => tar([first, { ...first }]), /is in it twice|does not begin/],
  ['no manifest', async () => tar([first, { name: 'data/a' }]), /its end is missing/],
  [
    'a member behind the end',
    async () => tar([first, manifestOf([first]), { name: 'data/a' }]),
    /comes behind its end/,
  ],
  [
    'a member that the manifest lacks',
    async () => tar([first, { name: 'data/a' }, manifestOf([first])]),
    /is not in its manifest/,
  ],
  [
    'a member that is not there',
    async () => tar([first, manifestOf([first, { name: 'data/a' }])]),
    /"data\/a" is missing/,
  ],
  [
    'other bytes',
    async () =>
      tar([first, { name: 'data/a', body: '1' }, manifestOf([first, { name: 'data/a', body: '2' }])]),
    /the bytes of data\/a were changed/,
  ],
  ['a header that is not JSON', async () => tar([{ name: 'pawl-backup.json', body: '{' }]), /is not JSON/],
  [
    'a header of a later format',
    async () => tar([{ name: 'pawl-backup.json', body: '{"format":"pawl.backup/v9"}' }]),
    /does not know/,
  ],
  [
    'a header without its fields',
    async () => tar([{ name: 'pawl-backup.json', body: '{}' }]),
    /not of the right form/,
  ],
  [
    'a manifest that is not one',
    async () => tar([first, { name: 'manifest.json', body: '[]' }]),
    /not of the right form/,
  ],
  [
    'a size without end',
    async () => edited(await whole([{ name: 'data/a', body: '1' }]), 1024, 124, '77777777777\0'),
    /is too large/,
  ],
  [
    'a size below zero',
    async () =>
      edited(
        await whole([{ name: 'data/a', body: '1' }]),
        1024,
        124,
        '\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff',
      ),
    /invalid header|no whole backup/,
  ],
  [
    'a long header without end',
    async () =>
      edited(
        edited(await whole([{ name: 'data/a', body: '1' }]), 1024, 124, '77777777777\0'),
        1024,
        156,
        'x',
      ),
    /header exceeds max size/,
  ],
  [
    'more than the disk has',
    async () =>
      edited(
        await whole([{ name: `artifacts/sha256/${'a'.repeat(64)}`, body: '1' }]),
        1024,
        124,
        '00200000000000'.slice(2, 13),
      ),
    /no whole backup/,
  ],
]

t.test('a file that is no backup puts nothing in place', async (t) => {
  for (const [name, make, message] of table) {
    const folder = folderOf(t)
    const error = await unpack(Readable.from([await make()]), folder).then(
      () => undefined,
      (error: unknown) => error as Error & { code: string },
    )
    t.match(error?.message ?? 'it was taken', message, name)
    t.same(readdirSync(join(folder, '..')), ['work'], `${name}: nothing beside the folder`)
  }
})

t.test('rows that are not rows are refused', async (t) => {
  const chunk = (body: string | Buffer): Entry => ({
    name: 'database/00001.ndjson.zst',
    body: typeof body === 'string' ? zstdCompressSync(body) : body,
  })
  const cases: [string, Entry, Record<string, number>, RegExp][] = [
    [
      'what unpacks without end',
      chunk(zstdCompressSync(Buffer.alloc(65 * 2 ** 20))),
      {},
      /cannot be unpacked, or is too large/,
    ],
    ['what does not unpack', chunk(Buffer.from('nothing')), {}, /cannot be unpacked/],
    ['no table', chunk('{}\n'), {}, /does not hold rows/],
    ['a list', chunk('{"table":"nodes"}\n[1]\n{"a":1}'), {}, /does not hold rows/],
    ['an object in a column', chunk('{"table":"nodes"}\n{"name":{}}'), {}, /does not hold rows/],
    ['rows of two shapes', chunk('{"table":"nodes"}\n{"a":1}\n{"b":1}'), {}, /does not hold rows/],
    [
      'fewer rows than it says',
      chunk('{"table":"nodes"}\n{"a":1}'),
      { nodes: 2 },
      /has 1 rows of table nodes, and says 2/,
    ],
  ]
  for (const [name, entry, rows, message] of cases) {
    const folder = folderOf(t)
    const unpacked = await unpack(
      Readable.from([await tar([first, entry, manifestOf([first, entry], rows)])]),
      folder,
    )
    const read = async () => {
      for await (const _ of rowsOf(folder, unpacked)) {
        // only to the end
      }
    }
    await t.rejects(read(), { code: 'invalid', message }, name)
  }
})

t.test('rows that the schema does not take leave an empty folder', async (t) => {
  const cases: [string, string, RegExp][] = [
    ['a table that there is not', '{"table":"sqlite_master"}\n{"a":1}', /rows of a table/],
    ['a column that there is not', '{"table":"profiles"}\n{"name; drop table nodes":1}', /has a column/],
    [
      'a value that a rule forbids',
      '{"table":"operators"}\n{"id":"a","name":"a","role":"god","secret_hash":"x","created_at":"x"}',
      /does not take a row/,
    ],
    [
      'a row that refers to nothing',
      '{"table":"node_macs"}\n{"mac":"x","node":"none"}',
      /does not take a row/,
    ],
  ]
  for (const [name, text, message] of cases) {
    const entry = { name: 'database/00001.ndjson.zst', body: zstdCompressSync(text) }
    const to = join(temporaryFolder(t), 'to')
    const from = Readable.from([await whole([entry])])
    await t.rejects(
      restore('/dev/null', to, join(to, 'pawl.db'), { from }),
      { code: 'invalid', message },
      name,
    )
    t.same(readdirSync(to), [], name)
  }
  const newer = {
    name: 'pawl-backup.json',
    body: JSON.stringify({ ...header, migrations: ['0001-first', '9999-later'] }),
  }
  const to = join(temporaryFolder(t), 'to')
  const from = Readable.from([await tar([newer, manifestOf([newer])])])
  await t.rejects(restore('/dev/null', to, join(to, 'pawl.db'), { from }), {
    code: 'storage-unavailable',
    message: /made by a newer Pawl/,
  })
})

t.test('cut anywhere, or any bit changed: refused, or the same to the last byte', async (t) => {
  const file = join(temporaryFolder(t), 'pawl.tar')
  await backup(await install(t), file, { withArtifacts: false })
  const bytes = readFileSync(file)
  const good = folderOf(t)
  await unpack(createReadStream(file), good)
  const digest = digestOf(good)
  const end = bytes.length - 1024 // two empty blocks end a tar
  for (let at = 0; at < end; at += 1536) {
    await t.rejects(
      unpack(Readable.from([bytes.subarray(0, at)]), folderOf(t)),
      { code: 'invalid' },
      `cut at ${at}`,
    )
  }
  let same = 0
  for (let at = 0; at < end; at += 397) {
    const copy = Buffer.from(bytes)
    copy.writeUInt8(copy.readUInt8(at) ^ (1 << (at % 8)), at)
    const folder = folderOf(t)
    const error = await unpack(Readable.from([copy]), folder).then(
      () => undefined,
      (error: unknown) => error as { code: string },
    )
    if (error === undefined) same += 1
    t.equal(
      error === undefined ? digestOf(folder) : error.code,
      error === undefined ? digest : 'invalid',
      `bit at ${at}`,
    )
  }
  t.ok(same < 40, `${same} of them were in padding`)
})

/** Every file with its bytes. */
function digestOf(folder: string): string {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  )
  const lines = names.map(({ parentPath, name }) => {
    const path = join(parentPath, name)
    return `${path.slice(folder.length)} ${sha256(readFileSync(path))}`
  })
  return lines.sort().join('\n')
}
