import t from 'tap'
import { handsOutCredential, mapSecretSettings } from '../../src/domain/join.ts'
import { handsOutCredentials, parseProfile, reliesOnAddress, writeProfile } from '../../src/domain/profile.ts'

const images = { stage2: 'small@1', stage3: 'full@1' }
const kubeadm = {
  kind: 'kubeadm',
  settings: {
    endpoint: '10.0.0.1:6443',
    token: 'abcdef.0123456789abcdef',
    caCertHash: `sha256:${'a'.repeat(64)}`,
  },
}
const chain = {
  imagesVersion: 'v2.1.6',
  chain: {
    'stage1.ipxe': 'https://a/b',
    'stage1.json': 'https://a/b',
    stage2: 'https://a/b',
    stage3: 'https://a/{{VERSION}}',
  },
}

t.test('refuses what is no profile, and names the field', async (t) => {
  const base = { name: 'p', boot: images }
  const table: [unknown, RegExp][] = [
    [undefined, /profile/],
    [[], /profile/],
    [{}, /profile/],
    [{ ...base, name: 'P' }, /name/],
    [{ ...base, name: undefined }, /name/],
    [{ ...base, bots: 1 }, /unknown field "bots"/],
    [{ ...base, tokens: 'x' }, /tokens/],
    [{ ...base, publishers: [] }, /publishers/],
    [{ ...base, whenFactsChange: 'ignore' }, /whenFactsChange/],
    [{ ...base, acceptAutoApproved: 'yes' }, /acceptAutoApproved/],
    [{ ...base, publishers: ['a', 'a'] }, /publishers/],
    [{ ...base, publishers: ['A'] }, /publishers/],
    [
      { ...base, publishers: ['a'], acceptUnsigned: true },
      /publishers names who must sign, and acceptUnsigned/,
    ],
    [{ ...base, acceptUnsigned: 'yes' }, /acceptUnsigned/],
    [{ ...base, evidence: [] }, /evidence/],
    [{ ...base, evidence: ['tpm'] }, /evidence/],
    [{ ...base, evidence: ['secret', 'secret'] }, /evidence/],
    [{ ...base, boot: 'remote' }, /boot/],
    [{ ...base, boot: { stage2: 'small@1' } }, /boot/],
    [{ ...base, boot: { ...images, stage2: '../x@1' } }, /\.\.\/x@1|image/],
    [{ ...base, boot: { ...images, join: { kind: 'ssh' } } }, /join/],
    [
      { ...base, boot: { ...images, join: { ...kubeadm, settings: { ...kubeadm.settings, token: 'x' } } } },
      /token/,
    ],
    [{ ...base, boot: chain }, /needs "tokens: epoxy"/],
    [{ ...base, tokens: 'epoxy' }, /need "tokens: native"/],
    [{ ...base, reinstall: 'local' }, /nothing to install from/],
    [{ ...base, kernelArguments: 'a;;b && c' }, /./],
    [{ ...base, kernelArguments: '${x}' }, /./],
    [{ ...base, kernelArguments: 'a\nb' }, /./],
  ]
  for (const [value, message] of table)
    t.throws(() => parseProfile(value), { code: 'invalid', message }, JSON.stringify(value))
})

t.test('an address alone opens no reinstall and no credential unless the profile says so', async (t) => {
  const base = { name: 'p', evidence: ['address'] }
  t.throws(() => parseProfile({ ...base, boot: images, reinstall: images }), { message: /serve reinstall/ })
  t.throws(() => parseProfile({ ...base, boot: { ...images, join: kubeadm } }), {
    message: /kubeadm credentials/,
  })
  t.ok(parseProfile({ ...base, boot: images }))
  t.ok(
    parseProfile({ ...base, boot: { ...images, join: kubeadm }, reinstall: images, acceptAddressOnly: true }),
  )
  t.ok(
    parseProfile({
      name: 'p',
      evidence: { boot: ['address'], reinstall: ['secret'] },
      boot: images,
      reinstall: images,
    }),
  )
})

t.test('a certificate is more than an address, wherever that matters', async (t) => {
  const sealed = { name: 'p', evidence: ['address', 'certificate'] }
  t.ok(parseProfile({ ...sealed, boot: { ...images, join: kubeadm }, reinstall: images }))
  t.ok(parseProfile({ ...sealed, evidence: ['certificate'], boot: { ...images, join: kubeadm } }))
  const half = { boot: ['certificate'], reinstall: ['address'] }
  t.throws(() => parseProfile({ ...sealed, evidence: half, boot: images, reinstall: images }), {
    message: /serve reinstall/,
    hint: /"secret" or "certificate"/,
  })
  t.throws(
    () => parseProfile({ name: 'p', tokens: 'epoxy', evidence: ['secret', 'certificate'], boot: chain }),
    {
      code: 'invalid',
      message: /has a chain, whose client presents no certificate/,
    },
  )
  for (const evidence of [['certificate', 'certificate'], ['tpm'], []])
    t.throws(() => parseProfile({ name: 'p', evidence, boot: images }), { code: 'invalid' })
  const table: [string[] | { boot: string[]; reinstall: string[] }, boolean][] = [
    [['address'], true],
    [['address', 'certificate'], true],
    [['address', 'secret'], false],
    [['secret'], false],
    [['certificate'], false],
    [{ boot: ['secret'], reinstall: ['address'] }, true],
  ]
  for (const [evidence, relies] of table) {
    const written = { name: 'p', evidence, boot: images, reinstall: images, acceptAddressOnly: true }
    t.equal(reliesOnAddress(parseProfile(written)), relies, JSON.stringify(evidence))
  }
  const bootOnly = { name: 'p', evidence: { boot: ['secret'], reinstall: ['address'] }, boot: images }
  t.equal(reliesOnAddress(parseProfile(bootOnly)), false, 'of a sequence that there is not, nothing is said')
})

t.test('what hands out credentials: any join with a secret setting, and every chain', async (t) => {
  const table: [object, boolean][] = [
    [{ boot: 'local' }, false],
    [{ boot: images }, false],
    [{ boot: { ...images, join: kubeadm } }, true],
    [{ boot: 'local', reinstall: { ...images, join: kubeadm } }, true],
    [{ boot: 'local', reinstall: images }, false],
    [{ tokens: 'epoxy', boot: chain }, true],
  ]
  for (const [written, hands] of table)
    t.equal(handsOutCredentials(parseProfile({ name: 'p', ...written })), hands, JSON.stringify(written))
})

t.test('fills in defaults, and what it writes it reads back', async (t) => {
  const profile = parseProfile({ name: 'p', boot: images })
  t.same(profile, {
    name: 'p',
    tokens: 'native',
    evidence: { boot: ['secret'], reinstall: ['secret'] },
    acceptAddressOnly: false,
    acceptAutoApproved: false,
    secrets: 'static',
    armed: false,
    whenFactsChange: 'record',
    downloads: 'session',
    redirects: false,
    whenServerAbsent: 'retry',
    kernelArguments: '',
    acceptUnsigned: false,
    publishers: undefined,
    imgverify: false,
    expect: undefined,
    boot: { ...images, join: { kind: 'none' } },
    reinstall: undefined,
  })
  for (const written of [
    { name: 'p', boot: images },
    { name: 'p', boot: 'local', reinstall: { ...images, join: kubeadm } },
    { name: 'e', tokens: 'epoxy', boot: chain },
    { name: 'p', boot: images, publishers: ['ci', 'local'], imgverify: true },
    { name: 'p', boot: images, acceptUnsigned: true },
    { name: 'p', boot: images, expect: { stage1: 60, join: 86_400 } },
    { name: 'p', boot: images, expect: { reinstall: { stage2: 1 } } },
    { name: 'p', boot: images, acceptAutoApproved: true, whenFactsChange: 'refuse' },
  ]) {
    const parsed = parseProfile(written)
    t.same(parseProfile(JSON.parse(JSON.stringify(writeProfile(parsed)))), parsed)
  }
})

t.test('only the secret settings of a join are sealed', async (t) => {
  const join = parseProfile({ name: 'p', boot: { ...images, join: kubeadm } }).boot
  if (typeof join === 'string' || 'chain' in join) throw new Error('a sequence of images')
  t.ok(handsOutCredential(join.join))
  t.same(mapSecretSettings(join.join, () => '***').settings, { ...kubeadm.settings, token: '***' })
})

t.test('what a profile expects of its stages', (t) => {
  const expectOf = (expect: unknown) => parseProfile({ name: 'p', boot: 'local', expect }).expect
  t.same(expectOf({ stage1: 60 }), { boot: { stage1: 60 }, reinstall: { stage1: 60 } })
  t.same(expectOf({ reinstall: { stage2: 900 } }), { boot: {}, reinstall: { stage2: 900 } })
  const refused = [
    ...[
      { stage1: 0 },
      { stage1: 86_401 },
      { stage1: 1.5 },
      { stage1: '60' },
      { report: 5 },
      { boot: { report: 5 } },
    ],
    ...[{ boot: { stage1: 5 }, stage1: 5 }, { boot: null }, [], 60, null],
  ]
  for (const expect of refused) t.throws(() => expectOf(expect), { code: 'invalid' }, JSON.stringify(expect))
  t.end()
})

t.test('an identity is refused where nobody could get it, or anybody', async (t) => {
  const base = { name: 'p' }
  const audiences = ['https://vault.example.com', 'cluster']
  const rows: [string, Record<string, unknown>, RegExp][] = [
    ['no audience', { identity: { audiences: [] } }, /identity/],
    ['17 audiences', { identity: { audiences: Array.from({ length: 17 }, (_, n) => `a${n}`) } }, /identity/],
    ['one twice', { identity: { audiences: ['a', 'a'] } }, /identity/],
    ['a space in one', { identity: { audiences: ['a b'] } }, /identity/],
    ['a folder', { identity: { audiences: ['../a'] } }, /identity/],
    ['too long', { identity: { audiences: ['a'.repeat(256)] } }, /identity/],
    ['one file for two', { identity: { audiences: ['a/b', 'a:b'] } }, /one file on the node/],
    ['good for a minute', { identity: { audiences, lifetimeSeconds: 60 } }, /identity/],
    ['good for two days', { identity: { audiences, lifetimeSeconds: 172_800 } }, /identity/],
    [
      '17 labels',
      { identity: { audiences, labels: Array.from({ length: 17 }, (_, n) => `l${n}`) } },
      /identity/,
    ],
    ['a field that is not known', { identity: { audiences, issuer: 'x' } }, /identity/],
    ['by an address alone', { identity: { audiences }, evidence: ['address'] }, /give identities/],
  ]
  for (const [what, more, message] of rows)
    t.throws(() => parseProfile({ ...base, boot: images, ...more }), { code: 'invalid', message }, what)
  const good = { ...base, boot: images, identity: { audiences, labels: ['rack'], lifetimeSeconds: 300 } }
  t.same(parseProfile(good).identity, good.identity)
  t.same(
    parseProfile(writeProfile(parseProfile(good))),
    parseProfile(good),
    'written and read again it is the same',
  )
  t.ok(handsOutCredentials(parseProfile(good)))
  const byAddress = { ...good, evidence: ['address'], acceptAddressOnly: true }
  t.ok(parseProfile(byAddress).identity)
})

t.test('everything that is wrong is told at once', (t) => {
  const images = { stage2: 'small@1', stage3: 'full@1' }
  const join = { kind: 'kubeadm', settings: { endpoint: 'k8s.example.test:6443' } }
  t.throws(
    () =>
      parseProfile({
        ...{ name: 'demo', boot: { ...images, join }, reinstall: { ...images, join } },
        ...{ acceptUnsigned: true, publishers: ['ci'] },
      }),
    {
      code: 'invalid',
      message: [
        'profile "demo": boot.join.settings.token is missing: give a token, or a kubeconfig to make one for each boot',
        'profile "demo": reinstall.join.settings.token is missing: give a token, or a kubeconfig to make one for each boot',
        'profile "demo": publishers names who must sign, and acceptUnsigned says that nobody need',
      ].join('; '),
    },
  )
  t.throws(
    () =>
      parseProfile({
        name: 'demo',
        boot: { ...images, join: { kind: 'kubeadm', settings: {} } },
        reinstall: { ...images, join: { kind: 'kubeadmin' } },
      }),
    {
      code: 'invalid',
      message:
        /^profile: boot\.join\.settings\.endpoint is missing; reinstall\.join\.kind must be one of "none", /,
    },
  )
  t.end()
})
