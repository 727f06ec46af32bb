import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { parseManifest } from '../../src/domain/image.ts'
import { parsePublisherName } from '../../src/domain/publisher.ts'
import { createAuthority, openAuthority } from '../../src/pki/authority.ts'
import { type SigningKey, signImage } from '../../src/pki/code-signing.ts'
import { newSigner, rsaKey, signingKeyOf } from '../helpers/signing.ts'
import { smallFile, smallKernel, smallManifest } from '../helpers/small-image.ts'
import { worldBegins } from '../helpers/world.ts'

/**
 * The stage-2 agent's own shell functions, on this machine: what it makes of an answer of stage 2. Machines under QEMU try
 * two of these cases in test/boot.
 */
const programs = ['jq', 'openssl', 'cpio']
const absent = programs.filter((name) => spawnSync('which', [name]).status !== 0)
const needs = {
  skip: absent.length > 0 && process.env.PAWL_REQUIRE !== 'all' && `${absent.join(', ')} not installed`,
}

const folder = mkdtempSync(join(tmpdir(), 'pawl-agent-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const images = join(import.meta.dirname, '../../images')
const agent = readFileSync(join(images, 'stage2/init'), 'utf8')
  .replace(/^\. \/usr\/lib\/pawl\/agent\.sh$/m, '')
  .replace(/^PATH=.*$/m, '')
  .replace(/^main$/m, '')
const words = /^JQ_WORD=.*$/m.exec(readFileSync(join(images, 'lib/agent.sh'), 'utf8'))?.[0]

const filesystem = smallFile('filesystem')
const file = (role: string, { digest, bytes }: typeof filesystem) => ({
  role,
  digest,
  size: bytes.length,
  mediaType: 'application/octet-stream',
})
const small = smallManifest(smallKernel(), smallFile('initramfs'), { minMemoryMiB: 512 })
const manifest = parseManifest({
  ...small,
  annotations: { note: 'it\'s $(reboot) `reboot` \\ " é' },
  artifacts: [...(small.artifacts as object[]), file('filesystem', filesystem)],
})
const other = parseManifest({ ...manifest, version: '2' })
const [publisher, stranger] = [await newSigner('ci'), await newSigner('stranger')]

type Answer = Record<string, unknown> & { manifest: string; signatures: string[] }

function signed(key: SigningKey, of = manifest): string {
  return signImage(key, of).manifest
}

/** What the server answers for the image. */
function answer(changes: Record<string, unknown> = {}): Answer {
  const [kernel, initramfs, root] = manifest.artifacts.map(({ role, digest, size }) => ({
    url: `https://b/artifacts/${role}`,
    sha256: digest,
    size,
  }))
  return {
    stage: 'stage2',
    image: 'small@1',
    kernel,
    initramfs,
    capability: 'cap',
    args: 'quiet console=ttyS0',
    minMemoryMiB: 512,
    manifest: canonicalJson(manifest),
    signatures: [signed(signingKeyOf(publisher))],
    handover: { version: 1, tokens: { stage3: 'three' }, filesystem: { ...root, capability: 'cap' } },
    ...changes,
  }
}

interface Trusts {
  readonly publishers?: string
  readonly acceptUnsigned?: boolean
}

/** Runs the agent's functions; what it says, and the values it would go on with. */
function run(given: unknown, { publishers = '', acceptUnsigned = false }: Trusts): string {
  writeFileSync(join(folder, 'publishers.pem'), publishers)
  rmSync(join(folder, 'accept-unsigned'), { force: true })
  if (acceptUnsigned) writeFileSync(join(folder, 'accept-unsigned'), '')
  writeFileSync(join(folder, 'handover.json'), JSON.stringify({ tokens: { report: 'rep' } }))
  writeFileSync(join(folder, 'answer.json'), JSON.stringify(given))
  const script = `${words}
say() { echo "$*"; }
fail() { echo "error: $1"; [ -z "\${2-}" ] || echo "hint: $2"; exit 3; }
${agent}
RUN=${folder} HANDOVER=${folder}/handover.json PUBLISHERS=${folder}/publishers.pem ACCEPT_UNSIGNED=${folder}/accept-unsigned
require_trust; read_answer; trust_manifest
echo "goes on: $IMAGE $KERNEL_SHA256 $KERNEL_SIZE $INITRAMFS_SHA256 $MIN_MEMORY_MIB $NEXT_HANDOVER"`
  return spawnSync('sh', ['-c', script], { encoding: 'utf8' }).stdout
}

const trusting = (pair: { certificates: string }): Trusts => ({ publishers: pair.certificates })

t.test('the agent starts nothing that no publisher of its own has signed', needs, async (t) => {
  const text = canonicalJson(manifest)
  const [own, theirs] = [signed(signingKeyOf(publisher)), signed(signingKeyOf(stranger))]
  const flipped = Buffer.from(own, 'base64')
  flipped.writeUInt8(flipped.readUInt8(flipped.length - 9) ^ 1, flipped.length - 9)
  const evil = parseManifest({ ...manifest, kernelArguments: 'quiet init=/bin/evil' })
  const cases: [what: string, answer: Answer, trusts: Trusts, says: RegExp][] = [
    [
      'no publisher is trusted',
      answer(),
      {},
      /^error: this stage-2 image trusts no publisher\nhint: .*trust\.sh/,
    ],
    [
      'it is unsigned',
      answer({ signatures: [] }),
      trusting(publisher),
      /^error: small@1 is not signed\nhint: sign it/,
    ],
    [
      'a stranger signed it',
      answer({ signatures: [theirs] }),
      trusting(publisher),
      /error: no publisher that this stage-2 image trusts signed/,
    ],
    ['a stranger is trusted only', answer(), trusting(stranger), /error: no publisher that this/],
    [
      'one bit is changed in the signature',
      answer({ signatures: [flipped.toString('base64')] }),
      trusting(publisher),
      /error: no publisher that this/,
    ],
    [
      'the signature is no base64',
      answer({ signatures: ['$(reboot)'] }),
      trusting(publisher),
      /error: no publisher that this/,
    ],
    [
      'the signature is of another manifest',
      answer({ signatures: [signed(signingKeyOf(publisher), other)] }),
      trusting(publisher),
      /error: no publisher that this/,
    ],
    [
      'the manifest was changed',
      answer({ manifest: canonicalJson(evil) }),
      trusting(publisher),
      /error: no publisher that this/,
    ],
    [
      'a blank was added',
      answer({ manifest: `${text} ` }),
      trusting(publisher),
      /error: no publisher that this/,
    ],
    [
      'a line was added',
      answer({ manifest: `${text}\n` }),
      trusting(publisher),
      /error: no publisher that this/,
    ],
    [
      'a NUL was added',
      answer({ manifest: text.replace('"quiet"', '"quiet\\u0000"') }),
      trusting(publisher),
      /error: no publisher that this|not one this image can read/,
    ],
    [
      'there is no manifest',
      answer({ manifest: undefined }),
      trusting(publisher),
      /^error: the answer of stage 2 is not one/,
    ],
    [
      'the manifest is no JSON',
      answer({ manifest: 'x' }),
      trusting(publisher),
      /^error: the answer of stage 2 is not one/,
    ],
    [
      'signatures are no list',
      answer({ signatures: 'x' }),
      trusting(publisher),
      /^error: the answer of stage 2 is not one/,
    ],
  ]
  for (const [what, given, trusts, says] of cases) {
    const said = run(given, trusts)
    t.match(said, says, what)
    t.notMatch(said, /goes on/, what)
  }
})

t.test('the agent believes the manifest, and stops where the server says otherwise', needs, async (t) => {
  const given = answer()
  const handover = given.handover as Record<string, object>
  const cases: [what: string, changes: Record<string, unknown>, named: string][] = [
    ['another name', { image: 'small@2' }, 'the name'],
    ['another kernel', { kernel: { ...(given.kernel as object), sha256: filesystem.digest } }, 'the kernel'],
    ['another size', { initramfs: { ...(given.initramfs as object), size: 1 } }, 'the initramfs'],
    ['no filesystem', { handover: { ...handover, filesystem: undefined } }, 'the filesystem'],
    [
      'another filesystem',
      { handover: { ...handover, filesystem: { ...handover.filesystem, sha256: 'x' } } },
      'the filesystem',
    ],
    ['less memory', { minMemoryMiB: null }, 'the memory'],
    ['other arguments', { args: 'quietly' }, 'the kernel arguments'],
    ['two at once', { image: 'a@1', args: '' }, 'the name, the kernel arguments'],
  ]
  for (const [what, changes, named] of cases) {
    const said = run(answer(changes), trusting(publisher))
    t.match(said, `error: the server says otherwise than the signed manifest of small@1: ${named}\n`, what)
    t.notMatch(said, /goes on/, what)
  }
})

t.test('a signed image goes on with what the manifest says, whoever else signed it', needs, async (t) => {
  const [kernel, initramfs] = manifest.artifacts
  for (const [what, given, trusts] of [
    ['one signature', answer(), trusting(publisher)],
    [
      'the second of two',
      answer({ signatures: [signed(signingKeyOf(stranger)), ...answer().signatures] }),
      trusting(publisher),
    ],
    ['two publishers', answer(), { publishers: stranger.certificates + publisher.certificates }],
    ['the arguments alone', answer({ args: 'quiet' }), trusting(publisher)],
  ] as const) {
    const said = run(given, trusts)
    t.match(said, /^manifest verified: signed by a publisher/, what)
    const [, rest = ''] = said.split('goes on: ')
    const [image, kernelDigest, size, initramfsDigest, memory, ...handover] = rest.trim().split(' ')
    t.same(
      [image, kernelDigest, size, initramfsDigest, memory],
      ['small@1', kernel?.digest, String(kernel?.size), initramfs?.digest, '512'],
    )
    t.match(JSON.parse(handover.join(' ')), {
      tokens: { stage3: 'three', report: 'rep' },
      filesystem: { sha256: filesystem.digest, size: 10, capability: 'cap' },
    })
  }
})

t.test('an image built to accept unsigned ones says so each time', needs, async (t) => {
  const accepting = { acceptUnsigned: true }
  t.match(
    run(answer({ signatures: [] }), accepting),
    /^warning: no trusted publisher signed small@1; .*\ngoes on: small@1/,
  )
  t.match(run(answer(), { ...accepting, ...trusting(stranger) }), /^warning: .*\ngoes on: small@1/)
  t.match(run(answer(), { ...accepting, ...trusting(publisher) }), /^manifest verified.*\ngoes on: small@1/)
})

t.test(
  'only a publisher’s own certificate is trusted, not its CA, and not what expires',
  needs,
  async (t) => {
    const dataDir = join(folder, 'ca')
    mkdirSync(join(dataDir, 'pki'), { recursive: true })
    await createAuthority(dataDir, worldBegins)
    const authority = openAuthority(dataDir)
    const key = rsaKey()
    const certificates = await authority.issueCodeSigning({
      publisher: parsePublisherName('ci'),
      key,
      now: worldBegins,
    })
    const byCa = signingKeyOf({ key, certificates })
    const given = answer({ signatures: [signed(byCa)] })
    const pem = join(folder, 'ci.crt')
    writeFileSync(pem, certificates)
    const trust = (...more: string[]) => {
      const flags = ['--initramfs', pem, '--out', join(folder, 'out'), ...more]
      return spawnSync('sh', [join(images, 'trust.sh'), ...flags], { encoding: 'utf8' })
    }
    t.equal(trust('--publisher', pem).stderr, '')
    const made = readFileSync(join(folder, 'out'))
    t.equal(made.length % 4, 0)
    trust('--publisher', pem)
    t.ok(made.equals(readFileSync(join(folder, 'out'))), 'the same bytes each time')
    const packed = made.subarray(Math.ceil(certificates.length / 4) * 4)
    const unpacked = spawnSync('cpio', ['-i', '--quiet', '--to-stdout', 'etc/pawl/publishers.pem'], {
      input: packed,
    })
    t.equal(unpacked.stdout.toString(), byCa.chain.leaf.toString(), 'the leaf alone')
    t.match(run(given, { publishers: unpacked.stdout.toString() }), /goes on/)
    // A server of the same CA, whose key is on every listener: it may not sign images.
    const server = await authority.issue({ kind: 'boot-server', names: ['b.example'], key, now: worldBegins })
    const [crt, content] = [join(folder, 'server.crt'), join(folder, 'content')]
    const issuing = join(dataDir, 'pki/issuing.crt')
    writeFileSync(crt, server)
    writeFileSync(join(folder, 'server.key'), key, { mode: 0o600 })
    writeFileSync(content, canonicalJson(manifest))
    const flags = ['-sign', '-binary', '-noattr', '-outform', 'DER', '-signer', crt, '-certfile', issuing]
    const byServer = spawnSync('openssl', [
      'cms',
      ...flags,
      '-inkey',
      join(folder, 'server.key'),
      '-in',
      content,
    ])
    t.equal(String(byServer.stderr), '')
    const forged = answer({ signatures: [byServer.stdout.toString('base64')] })
    t.match(run(forged, { publishers: byCa.chain.leaf.toString() }), /error: no publisher that this/)
    t.match(
      run(forged, { publishers: authority.rootCertificate }),
      /goes on/,
      'so the CA itself is never trusted here',
    )
    t.match(trust('--publisher', join(dataDir, 'ca.crt')).stderr, /is a CA: name the publisher's own/)
    t.match(trust('--publisher', join(folder, 'none')).stderr, /there is no/)
    t.match(trust('--publisher', join(folder, 'answer.json')).stderr, /holds no certificate/)
    t.match(trust().stderr, /name a publisher to trust/)
    t.match(trust('--publisher').stderr, /usage/)
    t.equal(trust('--accept-unsigned').stderr, '')
    // openssl looks at the real clock, at which this one is long over.
    const past = await newSigner('past', new Date('2001-01-01T00:00:00Z'))
    const long = signingKeyOf(past, new Date('2001-06-01T00:00:00Z'))
    t.match(run(answer({ signatures: [signed(long)] }), trusting(past)), /goes on/, 'expired since it signed')
  },
)
