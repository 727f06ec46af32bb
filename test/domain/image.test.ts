import fc from 'fast-check'
import t from 'tap'
import { parseDigest } from '../../src/domain/digest.ts'
import {
  artifactOfRole,
  formatImageRef,
  manifestDigest,
  parseImageRef,
  parseManifest,
} from '../../src/domain/image.ts'

const kernel = { role: 'kernel', digest: 'aa'.repeat(32), size: 10, mediaType: 'application/octet-stream' }
const initramfs = { ...kernel, role: 'initramfs', digest: 'bb'.repeat(32), size: 20 }
const filesystem = { ...kernel, role: 'filesystem', digest: 'cc'.repeat(32), size: 64 * 2 ** 30 }

/** A good manifest, but for what is given. */
function manifest(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    schema: 'pawl.image/v1',
    name: 'pawl-stage3',
    version: '1',
    arch: 'x86_64',
    kernelArguments: 'console=ttyS0 quiet',
    artifacts: [kernel, initramfs, filesystem],
    ...changes,
  }
}

function without(field: string): Record<string, unknown> {
  return Object.fromEntries(Object.entries(manifest()).filter(([name]) => name !== field))
}

t.test('refuses a name or version that is more than a name', async (t) => {
  const refused = [
    '',
    'a',
    '@',
    'a@',
    '@1',
    'a@1@2',
    'a@1 ',
    ' a@1',
    'a@1\n',
    'A@1',
    'a@V1',
    'a/b@1',
    'a@../1',
    '../a@1',
    'a..b@1',
    'a@1..2',
    '.a@1',
    '-a@1',
    '_a@1',
    'a@.1',
    'a\0@1',
    'a%2f@1',
    'a\\b@1',
    'ä@1',
    'a+b@1',
    `${'a'.repeat(64)}@1`,
    `a@${'1'.repeat(64)}`,
  ]
  for (const text of refused) t.throws(() => parseImageRef(text), { code: 'invalid' }, JSON.stringify(text))
})

t.test('refuses a manifest, naming the field', async (t) => {
  const cases: [string, unknown, RegExp][] = [
    ['nothing', undefined, /^manifest/],
    ['a text', '{}', /^manifest/],
    ['a list', [], /^manifest/],
    ...['schema', 'name', 'version', 'arch', 'kernelArguments', 'artifacts'].map(
      (field): [string, unknown, RegExp] => [`no ${field}`, without(field), new RegExp(field)],
    ),
    ['another schema', manifest({ schema: 'pawl.image/v2' }), /schema/],
    ['another architecture', manifest({ arch: 'riscv64' }), /arch/],
    ['an unknown field', manifest({ signature: 'x' }), /unknown field "signature"/],
    [
      'an unknown field of an artifact',
      manifest({ artifacts: [{ ...kernel, url: 'x' }, initramfs] }),
      /"url"/,
    ],
    ['a name with a path', manifest({ name: '../x' }), /name/],
    ['a name with two dots', manifest({ name: 'a..b' }), /"a..b" is not an image name/],
    ['a version with two dots', manifest({ version: '1..2' }), /"1..2" is not an image version/],
    ['an unknown role', manifest({ artifacts: [kernel, { ...initramfs, role: 'dtb' }] }), /role/],
    [
      'no kernel',
      manifest({ artifacts: [initramfs, filesystem] }),
      /artifacts are initramfs, filesystem, not/,
    ],
    ['no initramfs', manifest({ artifacts: [kernel, filesystem] }), /artifacts/],
    ['two kernels', manifest({ artifacts: [kernel, kernel, initramfs] }), /artifacts/],
    ['two filesystems', manifest({ artifacts: [kernel, initramfs, filesystem, filesystem] }), /artifacts/],
    ['another order', manifest({ artifacts: [initramfs, kernel] }), /in this order/],
    ['a size of 0', manifest({ artifacts: [{ ...kernel, size: 0 }, initramfs] }), /size/],
    ['a size over the limit', manifest({ artifacts: [{ ...kernel, size: 2 ** 36 + 1 }, initramfs] }), /size/],
    ['a size as text', manifest({ artifacts: [{ ...kernel, size: '10' }, initramfs] }), /size/],
    ['a fraction', manifest({ artifacts: [{ ...kernel, size: 1.5 }, initramfs] }), /size/],
    [
      'an upper-case digest',
      manifest({ artifacts: [{ ...kernel, digest: 'AA'.repeat(32) }, initramfs] }),
      /digest/,
    ],
    ['a short digest', manifest({ artifacts: [{ ...kernel, digest: 'aa' }, initramfs] }), /digest/],
    [
      'a header in a media type',
      manifest({ artifacts: [{ ...kernel, mediaType: 'a/b\r\nX: y' }, initramfs] }),
      /mediaType/,
    ],
    ['no memory', manifest({ minMemoryMiB: 0 }), /minMemoryMiB/],
    ['arguments for a shell', manifest({ kernelArguments: 'a;b' }), /kernel argument "a;b"/],
    ['arguments over the limit', manifest({ kernelArguments: 'a'.repeat(2048) }), /kernelArguments/],
    ['an empty creator', manifest({ creator: '' }), /creator/],
    ['a creator of two lines', manifest({ creator: 'a\nb' }), /creator/],
    ['a creator over the limit', manifest({ creator: 'a'.repeat(257) }), /creator/],
    ['a revision with a terminal code', manifest({ sourceRevision: '\x1b[2J' }), /sourceRevision/],
    ['a time with a zone', manifest({ createdAt: '2026-11-21T09:30:00+01:00' }), /createdAt/],
    ['a time with fractions', manifest({ createdAt: '2026-11-21T09:30:00.5Z' }), /createdAt/],
    ['a 30th of February', manifest({ createdAt: '2026-02-30T00:00:00Z' }), /is no time/],
    ['an annotation named in capitals', manifest({ annotations: { SBOM: 'x' } }), /annotation name "SBOM"/],
    ['an annotation that is no text', manifest({ annotations: { a: 1 } }), /annotations/],
    [
      'too many annotations',
      manifest({ annotations: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`a${i}`, ''])) }),
      /65 annotations; 64 are the limit/,
    ],
    ['two spellings of the arguments', manifest({ kernelArguments: ' quiet' }), /one space/],
  ]
  for (const [name, value, message] of cases) {
    t.throws(() => parseManifest(value), { code: 'invalid', message }, name)
  }
})

t.test('refuses a manifest that is too large, and takes one just below', async (t) => {
  const half = { a: 'x'.repeat(130_000), b: 'x'.repeat(130_000) }
  t.ok(parseManifest(manifest({ annotations: half })))
  const message = /^the manifest has \d+ bytes; 262144 are the limit/
  t.throws(() => parseManifest(manifest({ annotations: { ...half, c: 'x'.repeat(2000) } })), {
    code: 'too-large',
    message,
  })
})

t.test('refuses a digest in any other spelling', async (t) => {
  for (const text of [
    '',
    'a'.repeat(63),
    'a'.repeat(65),
    'A'.repeat(64),
    'g'.repeat(64),
    `${'a'.repeat(64)}\n`,
    `../${'a'.repeat(61)}`,
  ]) {
    t.throws(() => parseDigest(text), { code: 'invalid' }, JSON.stringify(text))
  }
  t.equal(parseDigest('0f'.repeat(32)), '0f'.repeat(32))
})

t.test('reads name@version, and writes it back', async (t) => {
  t.strictSame(parseImageRef('pawl-stage2@2026.11.21-1_a'), {
    name: 'pawl-stage2',
    version: '2026.11.21-1_a',
  })
  t.equal(
    formatImageRef(parseImageRef(`${'a'.repeat(63)}@${'1'.repeat(63)}`)),
    `${'a'.repeat(63)}@${'1'.repeat(63)}`,
  )
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z0-9.@/_-]{1,12}$/), (text) => {
      try {
        return formatImageRef(parseImageRef(text)) === text && !/\.\.|\//.test(text)
      } catch {
        return true
      }
    }),
  )
})

t.test('reads a manifest with and without what is optional', async (t) => {
  t.strictSame(parseManifest(manifest()), manifest())
  const least = parseManifest(manifest({ artifacts: [kernel, initramfs], kernelArguments: '' }))
  t.equal(artifactOfRole(least, 'filesystem'), undefined)
  t.equal(artifactOfRole(least, 'initramfs')?.size, 20)
  t.equal(parseManifest(manifest({ minMemoryMiB: 512 })).minMemoryMiB, 512)
  const about = {
    creator: 'CI <ci@example.com>',
    createdAt: '2026-11-21T09:30:00Z',
    sourceRevision: 'c0ffee',
    annotations: { 'sbom.packages': 'pkg:deb/debian/bash@5.2\npkg:deb/debian/curl@7.88', empty: '' },
  }
  t.strictSame(parseManifest(manifest(about)), manifest(about))
})

t.test('one image has one digest, however its JSON is written', async (t) => {
  const one = parseManifest(manifest({ minMemoryMiB: 512 }))
  const other = parseManifest(JSON.parse(JSON.stringify({ minMemoryMiB: 512, ...manifest() }, null, 2)))
  t.equal(manifestDigest(one), manifestDigest(other))
  t.not(manifestDigest(one), manifestDigest(parseManifest(manifest({ minMemoryMiB: 513 }))))
  // sha256sum of the canonical JSON, written by hand: a change here would change every published image's identity.
  t.equal(
    manifestDigest(parseManifest(manifest({ artifacts: [kernel, initramfs] }))),
    '13dc70dffa75cdfac8274374168d301617fd1a1e5884ad22b169941a07b12ba9',
  )
})
