import { spawnSync } from 'node:child_process'
import { createPrivateKey } from 'node:crypto'
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { canonicalJson } from '../../src/domain/canonical-json.ts'
import { newSigner } from '../helpers/signing.ts'
import { smallFile, smallKernel } from '../helpers/small-image.ts'
import { forEachDatabase, worldBegins } from '../helpers/world.ts'
import { openInstallation, type Ran, temporaryFolder } from './helpers/installation.ts'

const absent = spawnSync('openssl', ['version']).status !== 0 && process.env.PAWL_REQUIRE !== 'all'
const builder = await newSigner('build-farm')

await forEachDatabase(t, async (t, openWorld) => {
  if (t.name === 'on PostgreSQL') {
    t.pass('the command line does not see which database it is')
    return
  }

  /** An installation, a folder with the files of an image, and how to run commands there. */
  async function open(t: Test) {
    const installation = await openInstallation(t, openWorld)
    const folder = temporaryFolder(t)
    const at = (name: string): string => join(folder, name)
    const kernel = smallKernel().bytes
    writeFileSync(at('kernel'), kernel)
    writeFileSync(at('initramfs'), smallFile('initramfs').bytes)
    writeFileSync(at('other'), smallFile('other').bytes)
    writeFileSync(at('farm.key'), builder.key, { mode: 0o600 })
    writeFileSync(at('farm.crt'), builder.certificates)
    const pawl = (env: Record<string, string>, ...argv: string[]): Promise<Ran> =>
      installation.run(argv, { env })
    const files = ['--kernel', at('kernel'), '--initramfs', at('initramfs')]
    const about = ['--creator', 'test', '--created', '2026-11-21T06:00:00Z']
    const publish = (ref: string, ...more: string[]) =>
      pawl({}, 'image', 'publish', ref, ...files, ...about, ...more)
    return { ...installation, at, pawl, files, publish }
  }

  await t.test('refuses to sign with what is not a key and its certificate', async (t) => {
    const { at, pawl, publish, files } = await open(t)
    const cases: [what: string, flags: string[], env: Record<string, string>, exit: number, says: RegExp][] =
      [
        [
          'a key alone',
          ['--sign-key', at('farm.key')],
          {},
          2,
          /a signing key is given without its certificate/,
        ],
        [
          'a certificate alone',
          [],
          { PAWL_SIGN_CERT: at('farm.crt') },
          2,
          /a signing certificate is given without its key/,
        ],
        ['no such file', ['--sign-key', at('no'), '--sign-cert', at('farm.crt')], {}, 1, /no is not there/],
        [
          'no such certificate',
          ['--sign-key', at('farm.key'), '--sign-cert', at('no')],
          {},
          1,
          /there is no .*no\n/,
        ],
        [
          'a certificate as key',
          ['--sign-key', at('pub.key'), '--sign-cert', at('farm.crt')],
          {},
          1,
          /the signing key cannot be read/,
        ],
        [
          'a publisher that is not registered',
          ['--sign-key', at('farm.key'), '--sign-cert', at('farm.crt')],
          {},
          1,
          /knows no publisher with the certificate in .*farm\.crt\nhint: an admin adds it with pawl publisher add/,
        ],
      ]
    writeFileSync(at('pub.key'), builder.certificates, { mode: 0o600 })
    for (const [what, flags, env, exit, says] of cases) {
      const ran = await pawl(env, 'image', 'publish', 'small@1', ...files, ...flags)
      t.equal(ran.exit, exit, what)
      t.match(ran.stderr, says, what)
    }
    chmodSync(at('farm.key'), 0o644)
    const loose = await publish('small@1', '--sign-key', at('farm.key'), '--sign-cert', at('farm.crt'))
    t.match(loose.stderr, /has mode 0644: others than its owner can reach it/)
    t.match((await pawl({}, 'image', 'list')).stderr, 'no images', 'nothing was published')
  })

  await t.test(
    'the data folder’s own publisher signs by itself; without it a note says what comes of it',
    async (t) => {
      const { at, pawl, publish, dataDir, files } = await open(t)
      t.match(await publish('small@1'), { exit: 0, stdout: /^[0-9a-f]{64}\n$/ })
      t.match((await pawl({}, 'image', 'show', 'small@1')).stdout, /signed +by local, /)
      rmSync(join(dataDir, 'publisher.key'))
      t.match((await publish('small@2')).stderr, /without a signature: sign it with pawl image sign/)
      t.match(
        (await pawl({}, 'image', 'verify', 'small@2')).stderr,
        /^error: small@2 is not signed\nhint: sign it/,
      )
      t.match((await pawl({}, 'image', 'sign', 'small@2')).stderr, /there is no key to sign with/)
      await pawl({}, 'publisher', 'add', 'farm', '--cert', at('farm.crt'))
      const signing = ['--sign-key', at('farm.key'), '--sign-cert', at('farm.crt')]
      const sign = () => pawl({}, 'image', 'sign', 'small@2', ...signing, ...files)
      const checks: [flags: string[], says: RegExp][] = [
        [
          ['--digest', 'a'.repeat(64)],
          /^error: the server's manifest of small@2 has digest [0-9a-f]{64}, not a{64}/,
        ],
        [['--initramfs', at('other')], /^error: the initramfs .*other has SHA-256/],
        [['--filesystem', at('other')], /^error: the image has no filesystem/],
      ]
      for (const [flags, says] of checks)
        t.match((await pawl({}, 'image', 'sign', 'small@2', ...signing, ...flags)).stderr, says)
      t.match(await sign(), { exit: 0, stdout: 'small@2 is signed by publisher "farm"\n' })
      t.match(await sign(), { exit: 0, stdout: 'publisher "farm" had signed small@2 before\n' })
      t.match(await publish('small@2', ...signing), { exit: 0, stderr: /published already, the same/ })
      t.match((await pawl({}, 'image', 'sign', 'none@1', ...signing)).stderr, /"none@1" is not published/)
    },
  )

  await t.test('a publisher is made with its key here, shown, and revoked', async (t) => {
    const { at, pawl, publish } = await open(t)
    const create = (name: string, key: string, cert: string) =>
      pawl({}, 'publisher', 'create', name, '--key', at(key), '--cert', at(cert))
    t.match((await create('No', 'a', 'b')).stderr, /is not a publisher's name/)
    t.match((await create('ci', 'x.key', 'farm.crt')).stderr, /farm\.crt exists already/)
    t.notOk(existsSync(at('x.key')))
    t.match(await create('ci', 'ci.key', 'ci.crt'), {
      exit: 0,
      stdout: /^publisher "ci" may sign until 2027-11-21/,
    })
    t.equal(statSync(at('ci.key')).mode & 0o777, 0o600)
    t.match((await create('ci', 'ci.key', 'again.crt')).stderr, /publisher "ci" exists/)
    const pem = await pawl({}, 'publisher', 'show', 'ci', '--pem')
    t.equal(pem.stdout, readFileSync(at('ci.crt'), 'utf8'))
    t.match((await pawl({}, 'publisher', 'show', 'ci')).stdout, /subject +CN=Pawl publisher ci\n/)
    const env = { PAWL_SIGN_KEY: at('ci.key'), PAWL_SIGN_CERT: at('ci.crt') }
    t.match(
      await pawl(
        env,
        'image',
        'publish',
        'small@1',
        '--kernel',
        at('kernel'),
        '--initramfs',
        at('initramfs'),
      ),
      { exit: 0 },
    )
    t.match((await pawl({}, 'publisher', 'list')).stdout, /^NAME.*\nci +good until .*\nlocal /)
    const revoked = await pawl({}, 'publisher', 'revoke', 'ci')
    t.equal(revoked.stdout, 'publisher "ci" is revoked\n')
    t.match(revoked.stderr, /^warning: small@1 has no other signature: sign it again/)
    t.match((await pawl({}, 'publisher', 'list')).stdout, /\nci +revoked/)
    t.match((await pawl({}, 'image', 'verify', 'small@1')).stderr, /small@1 is signed by ci \(revoked\) only/)
    t.match(
      (await publish('small@2', '--sign-key', at('ci.key'), '--sign-cert', at('ci.crt'))).stderr,
      /publisher "ci" was revoked at/,
    )
    t.match((await pawl({}, 'publisher', 'revoke', 'nobody')).stderr, /"nobody" does not exist/)
  })

  await t.test('an encrypted key takes its passphrase from a file', async (t) => {
    const { at, pawl, publish } = await open(t)
    const encrypted = createPrivateKey(builder.key)
      .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'correct horse' })
      .toString()
    writeFileSync(at('farm.key'), encrypted, { mode: 0o600 })
    writeFileSync(at('passphrase'), 'correct horse\n', { mode: 0o600 })
    await pawl({}, 'publisher', 'add', 'farm', '--cert', at('farm.crt'))
    const signing = ['--sign-key', at('farm.key'), '--sign-cert', at('farm.crt')]
    t.match(
      (await publish('small@1', ...signing)).stderr,
      /cannot be read\nhint: it is encrypted: PAWL_SIGN_PASSPHRASE_FILE/,
    )
    const env = { PAWL_SIGN_PASSPHRASE_FILE: at('passphrase') }
    await publish('small@1')
    t.match(await pawl(env, 'image', 'sign', 'small@1', ...signing), { exit: 0 })
  })

  await t.test('verify finds what is wrong in the database and in the store', async (t) => {
    const { at, pawl, publish, world, dataDir, files } = await open(t)
    const { db } = world.context.storage
    await publish('small@1')
    const verify = (...more: string[]) => pawl({}, 'image', 'verify', 'small@1', ...more)
    t.match(await verify(), {
      exit: 0,
      stdout:
        /^ok manifest +[0-9a-f]{64}\nok signature +of manifest and artifacts, by publisher "local"\nok bytes +the server read all 1\.1 kB back\n$/,
    })
    t.match(await verify(...files), { exit: 0, stdout: /\nok kernel +[0-9a-f]{64} \(/ })
    t.match(
      (await verify('--kernel', at('other'), '--initramfs', at('initramfs'))).stderr,
      /^error: the kernel .*other has SHA-256/,
    )
    t.match((await verify('--kernel', at('kernel'))).stderr, /give --initramfs: the image has one/)
    t.match((await verify('--trust', at('farm.crt'))).stderr, /small@1 is signed by local only/)
    t.match(await verify('--trust', join(dataDir, 'publisher.crt')), { exit: 0 })
    t.match((await verify('--trust', join(dataDir, 'ca.crt'))).stderr, /is a CA/)

    const { manifest, digest } = await db.selectFrom('images').selectAll().executeTakeFirstOrThrow()
    const evil = canonicalJson({ ...JSON.parse(manifest), kernelArguments: 'init=/bin/evil' })
    const harms: [what: string, change: Record<string, string>, says: RegExp][] = [
      [
        'another manifest',
        { manifest: evil },
        /^error: the manifest has SHA-256 .*\nhint: someone changed the database/,
      ],
      ['another order', { manifest: manifest.replace('{', '{"x":1,') }, /^error: /],
      ['a blank', { manifest: `${manifest} ` }, /not byte for byte the text that is signed/],
    ]
    for (const [what, change, says] of harms) {
      await db
        .updateTable('images')
        .set({ manifest, digest, ...change })
        .execute()
      t.match((await verify()).stderr, says, what)
    }
    await db.updateTable('images').set({ manifest, digest }).execute()
    const { document } = await db.selectFrom('image_signatures').selectAll().executeTakeFirstOrThrow()
    const spoilt = JSON.parse(document)
    spoilt.artifacts.kernel = spoilt.artifacts.initramfs
    await db
      .updateTable('image_signatures')
      .set({ document: JSON.stringify(spoilt) })
      .execute()
    t.match((await verify()).stderr, /^error: the signature of the kernel is over other bytes/)
    await db.updateTable('image_signatures').set({ document }).execute()
    const stored = join(dataDir, 'artifacts', 'sha256', JSON.parse(manifest).artifacts[1].digest)
    chmodSync(stored, 0o600)
    writeFileSync(stored, 'Initramfs')
    t.match((await verify()).stderr, /^error: .*initramfs|^error: .*[0-9a-f]{64}/)
    t.equal((await verify()).exit, 1)
  })

  await t.test(
    'what is exported is verified without a server, and by openssl',
    { skip: absent && 'openssl is not installed' },
    async (t) => {
      const { at, pawl, publish, files, dataDir, stop } = await open(t)
      await publish('small@1')
      const out = at('out')
      t.match((await pawl({}, 'image', 'export', 'small@1', '--out', out)).stdout, /manifest\.json\n/)
      t.same(readdirSync(out).sort(), [
        'local.initramfs.sig',
        'local.json',
        'local.kernel.sig',
        'local.manifest.sig',
        'manifest.json',
      ])
      t.match((await pawl({}, 'image', 'export', 'small@1', '--out', out)).stderr, /exists already/)
      await stop()
      const trusted = join(dataDir, 'publisher.crt')
      const evidence = ['--manifest', join(out, 'manifest.json'), '--signature', join(out, 'local.json')]
      const verify = (...more: string[]) => pawl({}, 'image', 'verify', 'small@1', ...evidence, ...more)
      t.match(await verify(...files, '--trust', trusted), {
        exit: 0,
        stdout: /ok signature +of manifest and artifacts, by "CN=Test builder"\nok kernel/,
      })
      const cases: [what: string, flags: string[], exit: number, says: RegExp][] = [
        ['nobody is trusted', files, 2, /--manifest, --signature and --trust are all needed/],
        [
          'another is trusted',
          [...files, '--trust', at('farm.crt')],
          1,
          /signed by "CN=Test builder", which is not trusted/,
        ],
        ['a file is missing', ['--kernel', at('kernel'), '--trust', trusted], 2, /give --initramfs/],
        [
          'a file is another',
          ['--kernel', at('kernel'), '--initramfs', at('other'), '--trust', trusted],
          1,
          /the initramfs .* has SHA-256/,
        ],
        [
          'the manifest is no JSON',
          [...files, '--trust', trusted, '--manifest', at('kernel')],
          1,
          /the manifest is not JSON/,
        ],
        [
          'the signature is another thing',
          [...files, '--trust', trusted, '--signature', join(out, 'manifest.json')],
          1,
          /signature: unknown field/,
        ],
        ['there is no such file', [...files, '--trust', trusted, '--signature', at('no')], 1, /there is no/],
      ]
      for (const [what, flags, exit, says] of cases) {
        const ran = await verify(...flags)
        t.equal(ran.exit, exit, what)
        t.match(ran.stderr, says, what)
      }
      const other = await pawl({}, 'image', 'verify', 'small@2', ...evidence, ...files, '--trust', trusted)
      t.match(other.stderr, /the manifest is of small@1, not of small@2/)
      const text = readFileSync(join(out, 'manifest.json'), 'utf8')
      writeFileSync(at('changed.json'), text.replace('"test"', '"tEst"'))
      t.match(
        (await verify(...files, '--trust', trusted, '--manifest', at('changed.json'))).stderr,
        /signature of the manifest is over other bytes/,
      )
      const contents = {
        manifest: join(out, 'manifest.json'),
        kernel: at('kernel'),
        initramfs: at('initramfs'),
      }
      for (const [part, content] of Object.entries(contents)) {
        const flags = [
          '-binary',
          '-inform',
          'DER',
          '-in',
          join(out, `local.${part}.sig`),
          '-content',
          content,
        ]
        const trust = [
          '-CAfile',
          trusted,
          '-purpose',
          'any',
          '-attime',
          String(worldBegins.getTime() / 1000),
          '-out',
          '/dev/null',
        ]
        const done = spawnSync('openssl', ['cms', '-verify', ...flags, ...trust], { encoding: 'utf8' })
        t.equal(done.status, 0, `${part}: ${done.stderr}`)
      }
    },
  )
})
