import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { t } from 'tap'
import { loadConfig } from '../../src/config.ts'
import { isPawlError } from '../../src/errors.ts'
import { openAuthority } from '../../src/pki/authority.ts'
import { checkDataFolder, initData, settingsFile } from '../../src/pki/data-folder.ts'
import {
  createFile,
  findSecretFile,
  isOwnedByUs,
  readSecretFile,
  writeFileDurably,
  writeSecretFile,
} from '../../src/pki/key-file.ts'
import { settingsKey } from '../../src/pki/settings-key.ts'

const now = new Date('2030-05-01T12:00:00Z')
const publicUrl = 'https://boot.example.net:8443'
const root = t.testdir({})
const inOrder = [
  '.',
  'pawl.yaml',
  'pki',
  'pki/settings.key',
  'pki/root.key',
  'ca.crt',
  'pki/issuing.key',
  'pki/issuing.crt',
  'pki/clients.key',
  'pki/clients.crt',
  'pki/nodes.key',
  'pki/nodes.crt',
  'pki/checkpoint.key',
]

/** A name for a folder that does not exist. */
const fresh = () => join(mkdtempSync(join(root, 'x-')), 'data')

function init(dataDir: string, more: { publicUrl?: string | undefined; names?: string[] } = {}) {
  return initData({ dataDir, publicUrl, names: ['192.0.2.10'], now, ...more })
}

/** Every file with its bytes. */
function contents(dataDir: string): Record<string, string> {
  const files = readdirSync(dataDir, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  )
  return Object.fromEntries(
    files.map(({ parentPath, name }) => {
      const file = join(parentPath, name)
      return [file.slice(dataDir.length + 1), readFileSync(file, 'hex')]
    }),
  )
}

async function faultOf(work: () => unknown): Promise<string> {
  try {
    await work()
  } catch (error) {
    if (isPawlError(error)) return `${error.code}: ${error.message} | ${error.hint}`
    throw error
  }
  return 'no error'
}

t.test('refuses a folder that others can reach', async (t) => {
  for (const mode of [0o750, 0o755, 0o701, 0o777]) {
    const dataDir = fresh()
    mkdirSync(dataDir)
    chmodSync(dataDir, mode)
    const fault = `key-unreadable: data folder ${dataDir} has mode 0${mode.toString(8)}: others can reach its keys | run chmod 700 ${dataDir}`
    t.equal(await faultOf(() => init(dataDir)), fault)
    t.same(readdirSync(dataDir), [], 'and writes nothing there')
  }
})

t.test('refuses a folder that is not ours', async (t) => {
  const dataDir = fresh()
  mkdirSync(dataDir, { mode: 0o700 })
  writeFileSync(join(dataDir, 'thesis.tex'), 'x')
  t.match(
    await faultOf(() => init(dataDir)),
    /^exists: .* it holds thesis\.tex \| name a new folder with --data/,
  )
  t.same(readdirSync(dataDir), ['thesis.tex'])
  t.match(await faultOf(() => init(join(dataDir, 'thesis.tex'))), /^invalid: .* is not a folder/)
  t.match(
    await faultOf(() => init(join(dataDir, 'thesis.tex', 'data'))),
    /^invalid: .* cannot be made \(ENOTDIR\)/,
  )
  t.match(
    await faultOf(() => checkDataFolder(join(dataDir, 'none'))),
    /^not-found: .* does not exist \| run pawl init/,
  )
})

t.test('refuses settings other than those in the file', async (t) => {
  const dataDir = fresh()
  await init(dataDir)
  const before = contents(dataDir)
  const cases: [Parameters<typeof init>[1], RegExp][] = [
    [
      { publicUrl: 'https://other.example.net' },
      /^exists: .*publicUrl "https:\/\/boot.example.net:8443", not https:\/\/other/,
    ],
    [{ names: ['192.0.2.10', '192.0.2.11'] }, /^exists: .*names without 192\.0\.2\.11/],
  ]
  for (const [more, fault] of cases) t.match(await faultOf(() => init(dataDir, more)), fault)
  writeFileSync(settingsFile(dataDir), 'names: [')
  t.match(await faultOf(() => init(dataDir)), /^usage: .*pawl\.yaml is not valid YAML/)
  writeFileSync(settingsFile(dataDir), Buffer.from(String(before['pawl.yaml']), 'hex'))
  t.same(contents(dataDir), before)
})

t.test('refuses a settings key that is lost or spoilt: a new one would open nothing', async (t) => {
  const dataDir = fresh()
  await init(dataDir)
  const file = join(dataDir, 'pki', 'settings.key')
  writeFileSync(file, 'abc')
  t.match(await faultOf(() => settingsKey(dataDir)), /^key-unreadable: .* does not hold 64 hex digits/)
  rmSync(file)
  t.match(
    await faultOf(() => settingsKey(dataDir)),
    /^key-unreadable: .* is not there \| restore it from the backup/,
  )
})

t.test('a settings key that is lost is not made again, nor a root certificate', async (t) => {
  for (const [lost, fault] of [
    [['pki/settings.key'], /^key-unreadable: .*settings\.key is not there \| restore it/],
    [
      ['ca.crt', 'pki/issuing.crt'],
      /^certificate-invalid: .*ca\.crt is missing, but .*issuing\.key was made/,
    ],
  ] as const) {
    const dataDir = fresh()
    await init(dataDir)
    for (const name of lost) rmSync(join(dataDir, name))
    const before = contents(dataDir)
    t.match(await faultOf(() => init(dataDir)), fault)
    t.same(contents(dataDir), before, 'and nothing else is made')
  }
})

t.test('what another user owns is not ours, unless that is root', async (t) => {
  t.equal(isOwnedByUs(1001, 1000), false)
  t.equal(isOwnedByUs(1000, 1000), true)
  t.equal(isOwnedByUs(0, 1000), true)
  t.equal(isOwnedByUs(1000, 0), false, 'root does not take the word of others')
  const skip = process.geteuid?.() === 0 ? false : 'only root can give files away'
  await t.test('file and folder', { skip }, async (t) => {
    const dataDir = fresh()
    await init(dataDir)
    const file = join(dataDir, 'pki', 'settings.key')
    chownSync(file, 65534, 65534)
    t.match(
      await faultOf(() => settingsKey(dataDir)),
      /^key-unreadable: .* belongs to another user \(uid 65534\) \| run pawl as that user/,
    )
    chownSync(dataDir, 65534, 65534)
    t.match(
      await faultOf(() => init(dataDir)),
      /^key-unreadable: .*data belongs to another user \(uid 65534\)/,
    )
  })
})

t.test('makes all that a server needs', async (t) => {
  const dataDir = fresh()
  t.same((await init(dataDir)).created, inOrder)
  t.equal(statSync(dataDir).mode & 0o777, 0o700)
  for (const name of [
    'pawl.yaml',
    'pki/root.key',
    'pki/issuing.key',
    'pki/settings.key',
    'pki/clients.key',
    'pki/nodes.key',
  ]) {
    t.equal(statSync(join(dataDir, name)).mode & 0o777, 0o600, name)
  }
  t.equal(settingsKey(dataDir).length, 32)
  t.ok(openAuthority(dataDir).rootKeyIsHere())
  const fileText = readFileSync(settingsFile(dataDir), 'utf8')
  const config = loadConfig({ flags: { data: dataDir }, env: {}, fileText, fileName: 'pawl.yaml' })
  t.match(config, { publicUrl, names: ['192.0.2.10'] }, 'the settings file is one that the server reads')
})

t.test('without public URL and names the settings file is empty, and the server reads it', async (t) => {
  const dataDir = fresh()
  await init(dataDir, { publicUrl: undefined, names: [] })
  const fileText = readFileSync(settingsFile(dataDir), 'utf8')
  t.equal(loadConfig({ flags: {}, env: {}, fileText, fileName: 'pawl.yaml' }).publicUrl, undefined)
  t.same((await init(dataDir, { publicUrl: undefined, names: [] })).created, [])
})

t.test('run twice it changes nothing', async (t) => {
  const dataDir = fresh()
  await init(dataDir)
  const before = contents(dataDir)
  t.same((await init(dataDir)).created, [])
  t.same((await init(dataDir, { publicUrl: undefined, names: [] })).created, [], 'nor with less to say')
  t.same(contents(dataDir), before)
})

t.test('killed after any step and run again it completes, and overwrites nothing', async (t) => {
  for (let done = 0; done < inOrder.length; done++) {
    const dataDir = fresh()
    await init(dataDir)
    // Each step is one rename, so a kill leaves the first steps whole, and perhaps a temporary file of the next.
    for (const name of inOrder.slice(done).reverse()) rmSync(join(dataDir, name), { recursive: true })
    for (const folder of [dataDir, join(dataDir, 'pki')].filter((path) => existsSync(path))) {
      writeFileSync(join(folder, '.half.key.0123456789abcdef.tmp'), 'half')
    }
    const before = existsSync(dataDir) ? contents(dataDir) : {}
    t.same((await init(dataDir)).created, inOrder.slice(done), `after ${inOrder[done - 1] ?? 'nothing'}`)
    const after = contents(dataDir)
    for (const [name, bytes] of Object.entries(before)) {
      if (name.endsWith('.tmp')) t.notOk(name in after, 'what was half done is gone')
      else t.equal(after[name], bytes, `${name} is kept`)
    }
    t.ok(openAuthority(dataDir))
  }
})

t.test('two at once make one CA', async (t) => {
  const dataDir = fresh()
  const made = await Promise.all([init(dataDir), init(dataDir)])
  t.same(
    made.flatMap(({ created }) => created).sort(),
    [...inOrder].sort(),
    'each thing is made by one of them',
  )
  t.ok(openAuthority(dataDir))
})

t.test('takes an empty folder, even the root of a file system', async (t) => {
  const dataDir = fresh()
  mkdirSync(join(dataDir, 'lost+found'), { recursive: true, mode: 0o700 })
  chmodSync(dataDir, 0o700)
  t.same((await init(dataDir)).created, inOrder.slice(1))
})

t.test('a secret file that others can reach is refused', async (t) => {
  const file = join(mkdtempSync(join(root, 'k-')), 'a.key')
  writeSecretFile(file, 'secret')
  for (const mode of [0o640, 0o604, 0o620, 0o610, 0o601, 0o660, 0o666, 0o644]) {
    chmodSync(file, mode)
    const fault = await faultOf(() => findSecretFile(file))
    t.match(
      fault,
      `key-unreadable: ${file} has mode 0${mode.toString(8)}: others than its owner can reach it | run chmod 600 ${file}`,
    )
  }
  for (const mode of [0o600, 0o400, 0o700]) {
    chmodSync(file, mode)
    t.equal(findSecretFile(file), 'secret')
  }
  const link = `${file}.link`
  symlinkSync(file, link)
  chmodSync(file, 0o640)
  t.match(await faultOf(() => findSecretFile(link)), /^key-unreadable: /, 'through a link as well')
})

t.test('what is no secret file is refused', async (t) => {
  const folder = mkdtempSync(join(root, 'k-'))
  const file = join(folder, 'big.key')
  writeFileSync(file, Buffer.alloc(256 * 1024 + 1), { mode: 0o600 })
  t.match(await faultOf(() => findSecretFile(file)), /is 262145 bytes, over the limit of 262144/)
  t.match(await faultOf(() => findSecretFile(folder)), /is not a file/)
  t.match(await faultOf(() => findSecretFile(join(file, 'x'))), /cannot be read \(ENOTDIR\)/)
  t.equal(findSecretFile(join(folder, 'none')), undefined)
  t.match(
    await faultOf(() => readSecretFile(join(folder, 'none'))),
    /^key-unreadable: .* is not there \| restore/,
  )
})

t.test('a key is made once and never overwritten, another file is replaced whole', async (t) => {
  const folder = mkdtempSync(join(root, 'k-'))
  const file = join(folder, 'a.key')
  t.equal(writeSecretFile(file, 'first'), true)
  t.equal(writeSecretFile(file, 'second'), false)
  t.equal(readSecretFile(file), 'first')
  writeFileDurably(file, 'third', 0o600)
  t.equal(readSecretFile(file), 'third')
  t.match(
    await faultOf(() => createFile(join(folder, 'none', 'a'), 'x', 0o600)),
    /cannot be written \(ENOENT\)/,
  )
  const taken = join(folder, 'folder')
  mkdirSync(join(taken, 'x'), { recursive: true })
  t.match(
    await faultOf(() => writeFileDurably(taken, 'x', 0o600)),
    /cannot be written \(E(ISDIR|NOTEMPTY|EXIST)\)/,
  )
  t.same(readdirSync(folder).sort(), ['a.key', 'folder'], 'no temporary file stays')
})
