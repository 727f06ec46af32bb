import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
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
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { type MediaContent, mediaFiles, mediaImage, secretScript } from '../../src/media/build.ts'
import { fatImage } from '../../src/media/fat.ts'
import { openTarget } from '../../src/media/write.ts'
import { efiIpxe } from '../helpers/ipxe.ts'

const secret = 'AAAAAAAAAAAABBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB'
const content: MediaContent = {
  node: 'node1.example.com',
  publicUrl: 'https://boot.example.com:8443',
  siteScript: '#!ipxe\necho hello\n',
  secret,
  ipxe: { bytes: efiIpxe(), arch: 'x86_64', version: '2.0.0', root: 'ab'.repeat(32) },
}
const bios = {
  ipxe: Buffer.from('lkrn'),
  isolinux: Buffer.alloc(4096, 7),
  diskCode: Buffer.alloc(432, 8),
  ldlinux: Buffer.from('c32'),
}

function temporaryFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-media-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Runs a program that reads what we wrote; skips by name where it is not installed. */
function reads(t: Test, program: string, args: readonly string[]): string | undefined {
  const found = ['/usr/bin', '/usr/sbin', '/bin', '/sbin'].find((folder) => existsSync(join(folder, program)))
  if (found === undefined) {
    if (process.env.PAWL_REQUIRE === 'all') t.fail(`${program} is not installed`)
    else t.pass(program, { skip: `${program} is not installed` })
    return undefined
  }
  return execFileSync(join(found, program), args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

t.test('the same content gives the same bytes, another secret changes one file', async (t) => {
  const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
  for (const [format, one, other] of [
    ['usb', mediaImage('usb', content), mediaImage('usb', content)],
    ['iso', mediaImage('iso', content), mediaImage('iso', content)],
    ['iso with a BIOS', mediaImage('iso', content, bios), mediaImage('iso', content, bios)],
  ] as const)
    t.equal(digest(one), digest(other), format)
  const image = mediaImage('usb', content)
  const rotated = mediaImage('usb', { ...content, secret: secret.toLowerCase() })
  const changed = [...image.entries()].filter(([at, byte]) => byte !== rotated[at]).map(([at]) => at)
  t.equal(changed.length, secret.length, 'nothing else is different')
  t.equal(image.indexOf(secret), changed[0], 'and that is where the secret is')
  t.equal(image.lastIndexOf(secret), changed[0], 'which is there once')
  t.ok(image.length <= 16 * 2 ** 20, 'small')
})

t.test('a medium without a secret has no file for one', async (t) => {
  const files = mediaFiles({ ...content, secret: undefined })
  t.same(
    files.map(({ path }) => path),
    ['EFI/BOOT/BOOTX64.EFI', 'autoexec.ipxe', 'pawl/medium.txt'],
  )
  t.notMatch(String(files.at(-1)?.bytes), 'secret.ipxe')
})

t.test(
  'a client certificate is a file beside the secret, and tells nothing of itself anywhere else',
  async (t) => {
    const certificate = '-----BEGIN PRIVATE KEY-----\nsecret words\n-----END PRIVATE KEY-----\n'
    const files = mediaFiles({ ...content, certificate })
    t.same(
      files.map(({ path }) => path),
      ['EFI/BOOT/BOOTX64.EFI', 'autoexec.ipxe', 'pawl/medium.txt', 'pawl/secret.ipxe', 'pawl/client.pem'],
    )
    t.equal(String(files.at(-1)?.bytes), certificate)
    const image = mediaImage('usb', { ...content, certificate })
    t.equal(image.indexOf('secret words'), image.lastIndexOf('secret words'))
    const other = mediaImage('usb', { ...content, certificate: certificate.replace('words', 'w0rds') })
    const changed = [...image.entries()].filter(([at, byte]) => byte !== other[at])
    t.equal(changed.length, 1, 'the number of the volume does not follow from the key')
  },
)

t.test('what says what a medium is holds no secret', async (t) => {
  const about = mediaFiles(content).find(({ path }) => path === 'pawl/medium.txt')
  t.equal(
    String(about?.bytes),
    `Boot medium of Pawl for node node1.example.com
Server: https://boot.example.com:8443
iPXE: 2.0.0, x86_64
Trusts: root certificate with SHA-256 ${'ab'.repeat(32)}
pawl/secret.ipxe is this node's enrolment secret. Lost or stolen: pawl node secret node1.example.com --revoke
`,
  )
})

t.test('the secret is a script of a length that BIOS loaders put nothing behind', async (t) => {
  for (const text of ['a', 'ab', 'abc', 'abcd', secret]) {
    const script = secretScript(text)
    t.equal(script.length % 4, 0)
    t.match(script, new RegExp(`^#!ipxe\nset pawl-secret ${text}\n+$`))
  }
})

t.test('each processor has its own name for what firmware boots', async (t) => {
  const loaderOf = (arch: MediaContent['ipxe']['arch']) =>
    mediaFiles({ ...content, ipxe: { ...content.ipxe, arch } })[0]?.path
  t.equal(loaderOf('x86_64'), 'EFI/BOOT/BOOTX64.EFI')
  t.equal(loaderOf('arm64'), 'EFI/BOOT/BOOTAA64.EFI')
  t.equal(loaderOf('riscv64'), 'EFI/BOOT/BOOTRISCV64.EFI')
})

t.test('file systems of all sizes are right to those who check them', async (t) => {
  const folder = temporaryFolder(t)
  const sizes = [0, 1, 511, 1024, 1025, 6 * 2 ** 20, 70 * 2 ** 20]
  for (const size of sizes) {
    const image = fatImage(
      [
        { path: 'EFI/BOOT/BOOTX64.EFI', bytes: Buffer.alloc(size, 1) },
        { path: 'a long name of more than 26 characters.ipxe', bytes: Buffer.from('one') },
        { path: 'a long name of more than 27 characters.ipxe', bytes: Buffer.from('two') },
        { path: 'exactly13.txt', bytes: Buffer.from('three') },
      ],
      { label: 'PAWL', volumeId: 1 },
    )
    const file = join(folder, 'fat')
    writeFileSync(file, image)
    const said = reads(t, 'fsck.vfat', ['-n', '-v', file])
    if (said !== undefined) t.match(said, /7 files, /, `${size} bytes`)
    const named = reads(t, 'mdir', ['-b', '-i', file, '::'])
    if (named === undefined) continue
    t.match(named, 'a long name of more than 26 characters.ipxe')
    t.match(named, 'a long name of more than 27 characters.ipxe')
    t.match(named, 'exactly13.txt')
  }
  t.throws(
    () =>
      fatImage([{ path: 'a', bytes: Buffer.alloc(1) }], { label: 'PAWL', volumeId: 1, freeBytes: 2 ** 31 }),
    { code: 'too-large' },
  )
})

t.test('a disk has one partition, and on it what was put there', async (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'usb.img')
  const image = mediaImage('usb', content)
  writeFileSync(file, image)
  t.equal(image.readUInt16LE(510), 0xaa55)
  t.equal(image[446 + 4], 0xef, 'an EFI system partition')
  t.equal(image.readUInt32LE(446 + 8), 2048)
  t.equal(image.readUInt32LE(446 + 12) * 512 + 2 ** 20, image.length)
  t.match(image.toString('latin1', 0, 440), 'boots UEFI machines only', 'what a BIOS says')
  const read = reads(t, 'mtype', ['-i', `${file}@@1M`, '::pawl/secret.ipxe'])
  if (read !== undefined) t.equal(read, secretScript(secret))
  const label = reads(t, 'mdir', ['-i', `${file}@@1M`, '::'])
  if (label !== undefined) t.match(label, /Volume in drive : is PAWL/)
})

t.test('a CD is one to those who read CDs, and boots what it says', async (t) => {
  const folder = temporaryFolder(t)
  for (const [name, image, platforms] of [
    ['uefi.iso', mediaImage('iso', content), ['UEFI']],
    ['both.iso', mediaImage('iso', content, bios), ['BIOS', 'UEFI']],
  ] as const) {
    const file = join(folder, name)
    writeFileSync(file, image)
    const said = reads(t, 'xorriso', ['-indev', `stdio:${file}`, '-report_el_torito', 'plain'])
    if (said === undefined) return
    const boots = [...said.matchAll(/^El Torito boot img : +\d+ +(\w+) +y +none/gm)].map(([, one]) => one)
    t.same(boots, platforms, name)
    t.equal(image.toString('latin1', 16 * 2048 + 40, 16 * 2048 + 45), 'PAWL ', 'the name of the volume')
    t.match(said, /El Torito img path : +\d +\/EFI.IMG/)
    const out = join(folder, `${name}.out`)
    reads(t, 'xorriso', ['-osirrox', 'on', '-indev', `stdio:${file}`, '-extract', '/EFI.IMG', out])
    const inside = reads(t, 'mtype', ['-i', out, '::autoexec.ipxe'])
    if (inside !== undefined) t.equal(inside, content.siteScript)
  }
})

t.test("a medium is its owner's alone, and appears whole or not at all", async (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'usb.img')
  const given = await openTarget(file, { asFolder: false, force: false })
  t.notOk(existsSync(file), 'nothing yet')
  await given.abandon()
  t.same(readdirSync(folder), [], 'nothing is left of what was given up')
  const target = await openTarget(file, { asFolder: false, force: false })
  await target.finish(Buffer.from('one'))
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.same(readdirSync(folder), ['usb.img'])
  const esp = join(folder, 'esp')
  await (await openTarget(esp, { asFolder: true, force: false })).finish(mediaFiles(content))
  t.equal(statSync(esp).mode & 0o777, 0o700)
  t.equal(statSync(join(esp, 'pawl/secret.ipxe')).mode & 0o777, 0o600)
  t.equal(readFileSync(join(esp, 'autoexec.ipxe'), 'utf8'), content.siteScript)
})

t.test('refuses to write over anything, and with --force over what is no medium', async (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'usb.img')
  writeFileSync(file, 'old')
  await t.rejects(openTarget(file, { asFolder: false, force: false }), { code: 'exists' })
  await (await openTarget(file, { asFolder: false, force: true })).finish(Buffer.from('new'))
  t.equal(readFileSync(file, 'utf8'), 'new')
  const documents = join(folder, 'documents')
  mkdirSync(documents)
  writeFileSync(join(documents, 'letter.txt'), '')
  await t.rejects(openTarget(documents, { asFolder: true, force: true }), { code: 'conflict' })
  await t.rejects(openTarget(documents, { asFolder: false, force: true }), { code: 'conflict' })
  await t.rejects(openTarget(file, { asFolder: true, force: true }), { code: 'conflict' })
  await t.rejects(openTarget('/dev/null', { asFolder: false, force: true }), {
    code: 'conflict',
    hint: /dd if=FILE/,
  })
  await t.rejects(openTarget(join(folder, 'no/such/folder'), { asFolder: false, force: false }), {
    code: 'invalid',
    message: /cannot be written \(ENOENT\)/,
  })
  const elsewhere = join(folder, 'elsewhere')
  writeFileSync(elsewhere, 'kept')
  rmSync(file)
  symlinkSync(elsewhere, file)
  await (await openTarget(file, { asFolder: false, force: true })).finish(Buffer.from('medium'))
  t.equal(readFileSync(elsewhere, 'utf8'), 'kept', 'a link is replaced, not followed')
})

t.test('--force replaces a medium, not an EFI system partition', async (t) => {
  const folder = temporaryFolder(t)
  const again = (path: string) => openTarget(path, { asFolder: true, force: true })
  for (const foreign of [
    'EFI/debian/shimx64.efi',
    'EFI/BOOT/BOOTX64.EFI',
    'EFI/BOOT/fbx64.efi',
    'pawl/notes.txt',
  ]) {
    const esp = join(folder, foreign.replaceAll('/', '-'))
    mkdirSync(dirname(join(esp, foreign)), { recursive: true })
    writeFileSync(join(esp, foreign), 'kept')
    await t.rejects(again(esp), { code: 'conflict', hint: /copy what is in it/ }, foreign)
    t.equal(readFileSync(join(esp, foreign), 'utf8'), 'kept')
  }
  // Wherever Linux runs, this is a mount point.
  await t.rejects(again('/proc'), { code: 'conflict', message: /is a mounted file system/ })
  const own = join(folder, 'own')
  mkdirSync(own)
  await (await again(own)).finish(mediaFiles(content))
  const next = await again(own)
  await next.reserve(mediaFiles(content))
  await next.finish(mediaFiles({ ...content, secret: undefined }).slice(0, 3))
  t.equal(readFileSync(join(own, 'autoexec.ipxe'), 'utf8'), content.siteScript)
  t.same(
    readdirSync(folder).filter((name) => name.includes('own')),
    ['own'],
    'nothing is left beside it',
  )
})

t.test('room for a medium is taken before it is finished, and what was taken is written over', async (t) => {
  const folder = temporaryFolder(t)
  const file = join(folder, 'usb.img')
  const target = await openTarget(file, { asFolder: false, force: false })
  await target.reserve(Buffer.alloc(100_000, 1))
  t.same(
    readdirSync(folder).map((name) => statSync(join(folder, name)).size),
    [100_000],
  )
  await target.finish(Buffer.from('shorter'))
  t.equal(readFileSync(file, 'utf8'), 'shorter')
})
