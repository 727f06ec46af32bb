import { readFileSync } from 'node:fs'
import { t } from 'tap'
import { type Config, dataDirOf, formatListen, loadConfig } from '../src/config.ts'
import { type Setting, settings } from '../src/config-table.ts'
import { parseListen } from '../src/config-values.ts'
import { isPawlError } from '../src/errors.ts'
import { refused, taken } from './config-cases.ts'

interface Sources {
  readonly flags?: Record<string, unknown>
  readonly env?: Record<string, string | undefined>
  readonly file?: string
}

function load({ flags = {}, env = {}, file }: Sources): Config {
  return loadConfig({ flags, env, fileText: file, fileName: 'DIR/pawl.yaml' })
}

/** The message and hint of the `usage` error that `sources` lead to. */
function faultOf(sources: Sources): string {
  try {
    load(sources)
  } catch (error) {
    if (!isPawlError(error, 'usage')) throw error
    return [error.message, error.hint].filter((part) => part !== undefined).join(' | ')
  }
  return 'no error'
}

const table: [string, Setting<unknown>][] = Object.entries(settings)
/** `--boot-listen` as the command line parser names it. */
function flagKey(setting: Setting<unknown>): string {
  return setting.flag.slice(2).replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())
}

t.test('every setting refuses what breaks its rule, and says which, where and why', async (t) => {
  t.same(Object.keys(refused).sort(), Object.keys(settings).sort(), 'the table is whole')
  for (const [key, setting] of table) {
    const [rule, ...values] = refused[key] ?? ['']
    for (const value of values) {
      const shown = setting.secret ? 'what it holds' : JSON.stringify(value)
      const flags = { [flagKey(setting)]: value }
      t.equal(faultOf({ flags }), `${key} (flag ${setting.flag}): ${shown} is not ${rule}`, `${key} ${shown}`)
      if (value === '' || value.includes(',')) continue
      t.match(faultOf({ env: { [setting.env]: value } }), `${key} (variable ${setting.env}): `)
      if (setting.notInFile) continue
      t.match(faultOf({ file: `# a line\n${key}: ${JSON.stringify(value)}` }), `${key} (DIR/pawl.yaml:2): `)
    }
  }
})

t.test('refuses a file with what it does not know', async (t) => {
  const cases: [file: string, fault: string][] = [
    ['bootListn: "[::]:1"', 'DIR/pawl.yaml:1 has no setting named "bootListn" | did you mean bootListen?'],
    ['\n\nboot-listen: x', 'DIR/pawl.yaml:3 has no setting named "boot-listen" | did you mean bootListen?'],
    ['publicURL: x', 'DIR/pawl.yaml:1 has no setting named "publicURL" | did you mean publicUrl?'],
    [
      'frobnicate: 1',
      'DIR/pawl.yaml:1 has no setting named "frobnicate" | docs/configuration.md lists the settings',
    ],
    ['__proto__: 1', 'DIR/pawl.yaml:1 has no setting named "__proto__"'],
    ['toString: 1', 'DIR/pawl.yaml:1 has no setting named "toString"'],
    [
      'dataDir: /x',
      'DIR/pawl.yaml:1 cannot set dataDir: it says where this file is | use --data or PAWL_DATA',
    ],
    ['logLevel: info\nbootListen: [::]:8443', 'DIR/pawl.yaml:2 is not valid YAML'],
    ['logLevel: info\nlogLevel: warn', 'DIR/pawl.yaml:2 is not valid YAML (DUPLICATE_KEY)'],
    ['bootListen: [a, b]', 'DIR/pawl.yaml:1 gives bootListen a list; it takes one value'],
    ['logLevel:', 'DIR/pawl.yaml:1 gives logLevel no value | remove the line to take the default'],
    ['names: [a, {b: c}]', 'DIR/pawl.yaml:1 gives names something else than a value'],
    ['names: &a [x]\ntrustedProxies: *a', 'DIR/pawl.yaml:2 refers to another place for trustedProxies'],
    ['- logLevel', 'DIR/pawl.yaml must hold lines of the form NAME: VALUE'],
    ['just text', 'DIR/pawl.yaml must hold lines of the form NAME: VALUE'],
    [
      'maxConnections: 0x10',
      'maxConnections (DIR/pawl.yaml:1): "0x10" is not a whole number from 10 to 1000000',
    ],
    [`# ${'x'.repeat(70_000)}`, 'DIR/pawl.yaml is over 65536 characters'],
  ]
  for (const [file, fault] of cases)
    t.equal(faultOf({ file }).slice(0, fault.length), fault, JSON.stringify(file.slice(0, 40)))
})

t.test('refuses settings that do not fit each other', async (t) => {
  const file = 'sessionIdleSeconds: 3600\nsessionMaxSeconds: 600'
  t.equal(faultOf({ file }), 'sessionMaxSeconds 600 is below sessionIdleSeconds 3600')
})

t.test('refuses a sign-in provider that is half set up', async (t) => {
  const whole = {
    oidcIssuer: 'https://idp.example.net/realms/site',
    oidcClientId: 'pawl',
    operatorUrl: 'https://Pawl.example.net:8444',
    oidcRoles: '[CN=ops,O=Example=operator, pawl-admins=admin]',
    oidcScopes: '[openid, email]',
  }
  const fileOf = (settings: Record<string, string>): string =>
    Object.entries(settings)
      .map(
        ([name, value]) =>
          `${name}: ${value.startsWith('[') ? `["${value.slice(1, -1).replace(', ', '", "')}"]` : value}`,
      )
      .join('\n')
  const without = (name: keyof typeof whole): string =>
    fileOf({ ...whole, [name]: '' }).replace(`${name}: `, '# ')
  t.match(load({ file: fileOf({ ...whole, oidcRoles: '[CN=ops;O=Example=operator, pawl-admins=admin]' }) }), {
    operatorUrl: 'https://pawl.example.net:8444',
    oidcRoles: [
      { group: 'CN=ops;O=Example', role: 'operator' },
      { group: 'pawl-admins', role: 'admin' },
    ],
    oidcScopes: ['openid', 'email'],
  })
  const cases: [string, string][] = [
    [without('oidcIssuer'), 'oidcIssuer is missing: settings of a provider are given without the provider'],
    [without('oidcClientId'), 'oidcClientId is missing: the provider asks who we are'],
    [without('operatorUrl'), 'operatorUrl is missing: the provider sends browsers back there'],
    [without('oidcRoles'), 'oidcRoles is missing: nobody could sign in without a group that has a role'],
    [fileOf({ ...whole, oidcScopes: '[email]' }), 'oidcScopes is missing: it must hold openid'],
    [
      'signInIdleSeconds: 3600\nsignInMaxSeconds: 600',
      'signInMaxSeconds 600 is below signInIdleSeconds 3600',
    ],
  ]
  for (const [file, fault] of cases) t.equal(faultOf({ file }), fault)
})

t.test('certificates of the operator come whole, and an old root with its own address', async (t) => {
  const whole = {
    bootCertFile: '/c',
    bootKeyFile: '/k',
    bootCaFile: '/ca',
    bootEcdsaCertFile: '/ec',
    bootEcdsaKeyFile: '/ek',
    operatorCertFile: '/oc',
    operatorKeyFile: '/ok',
    operatorCaFile: '/oca',
    oldBootListen: '192.0.2.1:8443',
    oldPublicUrl: 'https://old.example.net',
    publicUrl: 'https://new.example.net',
  }
  t.match(load({ flags: whole }), {
    bootCertFile: '/c',
    oldBootListen: { host: '192.0.2.1', port: 8443 },
    oldPublicUrl: 'https://old.example.net',
  })
  const missing: [keyof typeof whole, string][] = [
    ['bootCertFile', 'bootCertFile is missing: bootKeyFile needs it'],
    ['bootKeyFile', 'bootKeyFile is missing: bootCertFile needs it'],
    ['bootCaFile', 'bootCaFile is missing: bootCertFile needs it'],
    ['bootEcdsaCertFile', 'bootEcdsaCertFile is missing: bootEcdsaKeyFile needs it'],
    ['bootEcdsaKeyFile', 'bootEcdsaKeyFile is missing: bootEcdsaCertFile needs it'],
    ['operatorCertFile', 'operatorCertFile is missing: operatorKeyFile needs it'],
    ['operatorKeyFile', 'operatorKeyFile is missing: operatorCertFile needs it'],
    ['operatorCaFile', 'operatorCaFile is missing: operatorCertFile needs it'],
    ['oldBootListen', 'oldBootListen is missing: oldPublicUrl needs it'],
    ['oldPublicUrl', 'oldPublicUrl is missing: oldBootListen needs it'],
  ]
  for (const [name, fault] of missing) t.equal(faultOf({ flags: { ...whole, [name]: undefined } }), fault)
  t.match(
    faultOf({ flags: { ...whole, oldPublicUrl: whole.publicUrl } }),
    'oldPublicUrl and publicUrl are the same: https://new.example.net | two roots need two names or ports',
  )
})

t.test('wants no PROXY header where Node listens twice', async (t) => {
  const file = 'bootListen: localhost:8443\nproxyProtocolFrom: ["127.0.0.1"]'
  t.match(faultOf({ file }), /^bootListen names localhost, and proxyProtocolFrom is set \| listen on /)
})

t.test('trusts no proxy to speak for everyone', async (t) => {
  for (const range of ['0.0.0.0/0', '::/0']) {
    t.match(faultOf({ flags: { trustedProxies: range } }), 'narrower than everyone', range)
    t.match(faultOf({ flags: { proxyProtocolFrom: range } }), 'narrower than everyone', range)
  }
})

t.test('allows webhooks no whole address family', async (t) => {
  for (const range of ['0.0.0.0/0', '::/0']) {
    t.match(faultOf({ flags: { webhookAllowedNetworks: range } }), 'narrower than everything', range)
  }
})

t.test("does not show the database's password", async (t) => {
  for (const sources of [
    { flags: { database: 'mysql://u:hunter2@h/d' } },
    { env: { PAWL_DATABASE: 'mysql://u:hunter2@h/d' } },
    { file: 'database: mysql://u:hunter2@h/d' },
  ]) {
    t.match(faultOf(sources), 'what it holds is not a file for SQLite')
    t.notMatch(faultOf(sources), 'hunter2')
  }
})

t.test('every setting takes what fits its rule', async (t) => {
  t.same(Object.keys(taken).sort(), Object.keys(settings).sort(), 'the table is whole')
  for (const [key, setting] of table) {
    for (const [text, value] of taken[key] ?? []) {
      const config = load({ flags: { [flagKey(setting)]: text } })
      t.same(config[key as keyof Config], value, `${key} ${text}`)
    }
  }
})

t.test(
  'a flag goes before a variable, a variable before the file, the file before the default',
  async (t) => {
    const file = 'logLevel: warn\nnames: [c, d]\nbootListen: "[::]:3"\nmaxConnections: 30'
    const env = { PAWL_LOG_LEVEL: 'error', PAWL_NAMES: 'b, c', PAWL_MAX_CONNECTIONS: '' }
    const flags = { logLevel: 'debug', json: true, name: ['a', 'A'] }
    t.equal(load({ flags, env, file }).logLevel, 'debug')
    t.equal(load({ env, file }).logLevel, 'error')
    t.equal(load({ file }).logLevel, 'warn')
    t.equal(load({}).logLevel, 'info')
    t.same(load({ flags, env, file }).names, ['a'], 'lists are replaced, not joined; each name once')
    t.same(load({ env, file }).names, ['b', 'c'])
    t.same(load({ file }).names, ['c', 'd'])
    t.equal(load({ env, file }).maxConnections, 30, 'an empty variable says nothing')
  },
)

t.test('without any setting the defaults hold', async (t) => {
  const config = load({})
  t.same(config, {
    dataDir: 'pawl-data',
    bootListen: { host: '::', port: 8443 },
    operatorListen: { host: '127.0.0.1', port: 8444 },
    tftpListen: 'off',
    tftpNodeScripts: 'off',
    ipxeSyslog: undefined,
    tftpMaxBlockSize: 65_464,
    tftpMaxWindowSize: 64,
    tftpMaxTransfers: 10_000,
    tftpMaxTransfersPerClient: 256,
    tftpGiveUpSeconds: 30,
    publicUrl: undefined,
    names: [],
    bootEcdsa: 'on',
    bootCertFile: undefined,
    bootKeyFile: undefined,
    bootEcdsaCertFile: undefined,
    bootEcdsaKeyFile: undefined,
    bootCaFile: undefined,
    operatorCertFile: undefined,
    operatorKeyFile: undefined,
    operatorCaFile: undefined,
    oldBootListen: undefined,
    oldPublicUrl: undefined,
    database: 'pawl-data/pawl.db',
    artifacts: undefined,
    s3Endpoint: undefined,
    s3PublicEndpoint: undefined,
    s3Region: 'us-east-1',
    s3Addressing: 'path',
    s3CredentialsFile: undefined,
    s3CaFile: undefined,
    operatorUrl: undefined,
    oidcIssuer: undefined,
    oidcClientId: undefined,
    oidcClientSecretFile: undefined,
    oidcScopes: [],
    oidcGroupsClaim: 'groups',
    oidcNameClaim: 'email',
    oidcRoles: [],
    oidcCaFile: undefined,
    signInIdleSeconds: 3600,
    signInMaxSeconds: 43_200,
    loginTokenSeconds: 43_200,
    trustedProxies: [],
    proxyProtocolFrom: [],
    bootClientCertificates: 'tls1.3',
    identityIssuer: undefined,
    identitySeconds: 3600,
    identityOverlapSeconds: 1200,
    identityKeyDays: 30,
    identityKeyLeadSeconds: 86_400,
    extensionAllowedNetworks: [],
    webhookAllowedNetworks: [],
    otlpEndpoint: undefined,
    otlpHeadersFile: undefined,
    otlpCaFile: undefined,
    joinCredentialSeconds: 300,
    clusterTimeoutSeconds: 8,
    maxClusterCalls: 8,
    otlpTimeoutSeconds: 10,
    otlpResourceAttributes: [],
    logLevel: 'info',
    tokenLifetimeSeconds: 7200,
    epoxyTokenLifetimeSeconds: 25_200,
    reportTokenLifetimeSeconds: 86_400,
    sessionIdleSeconds: 7200,
    sessionMaxSeconds: 86_400,
    alternatingMachinesSeconds: 86_400,
    maxStage1PerHour: 20,
    slowPercent: 150,
    stuckPercent: 300,
    stuckSilenceSeconds: 600,
    loopStage1s: 3,
    loopWindowSeconds: 3600,
    repeatStage1Seconds: 30,
    maxReinstallAttempts: 3,
    maxReinstallFailures: 6,
    reinstallMarkSeconds: 0,
    enrolmentLifetimeSeconds: 3600,
    maxPendingMachines: 1000,
    refusalDiskReserveMiB: 256,
    checkpointSeconds: 3600,
    checkpointDir: undefined,
    timelineRetentionDays: 90,
    eventRetentionDays: 0,
    maxBootBodyBytes: 65_536,
    maxOperatorBodyBytes: 1_048_576,
    maxArtifactBytes: 8_589_934_592,
    maxUploadsMiB: 65_536,
    requestTimeoutSeconds: 15,
    idleTimeoutSeconds: 15,
    workers: 1,
    databaseConnections: 10,
    maxConnections: 20_000,
    headerTimeoutSeconds: 10,
    maxHeaderBytes: 16_384,
    handshakeTimeoutSeconds: 10,
    stallTimeoutSeconds: 120,
    maxOperatorConnections: 2000,
    maxConnectionsPerAddress: 10_000,
    maxNewConnectionsPerAddress: 1000,
    maxHandshakesPerAddress: 5000,
    maxRequestsPerConnection: 1000,
    maxBootWork: 64,
    maxBootQueue: 5000,
    maxBootWaitSeconds: 15,
    maxRetryAfterSeconds: 120,
    maxDownloads: 2000,
    maxDownloadsPerSession: 8,
    drainSeconds: 0,
    metricsNodes: 20_000,
    artifactRedirectUrl: undefined,
    artifactCaFile: undefined,
    accelRedirectPath: undefined,
    downloadBytesPerSecond: 0,
    nodeDownloadBytesPerSecond: 0,
    artifactDiskCacheMiB: 10_240,
    artifactCacheMiB: 512,
    shutdownGraceSeconds: 30,
  })
  for (const part of [config, config.names, config.bootListen])
    t.ok(Object.isFrozen(part), 'and cannot be changed')
  t.same(load({ file: '# nothing but a comment\n' }), config, 'an empty file changes nothing')
})

t.test('the database is in the data folder', async (t) => {
  t.equal(load({ flags: { data: '/srv/p' } }).database, '/srv/p/pawl.db')
  t.equal(dataDirOf({ flags: { data: '/srv/p' }, env: { PAWL_DATA: '/x' } }), '/srv/p')
  t.equal(dataDirOf({ flags: {}, env: { PAWL_DATA: '/x' } }), '/x')
  t.equal(dataDirOf({ flags: {}, env: {} }), 'pawl-data')
})

t.test('a listen address is written as it is read', async (t) => {
  for (const text of ['[::]:8443', '127.0.0.1:0', 'localhost:1', '[fe80::1%eth0]:65535']) {
    t.equal(formatListen(parseListen(text)), text)
  }
})

t.test('flags and variables are named after the setting', async (t) => {
  for (const [key, { flag, env }] of table) {
    if (key === 'dataDir' || key === 'names') continue
    const words = key.replace('MiB', 'Mib').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    t.equal(flag, `--${words}`)
    t.equal(env, `PAWL_${words.toUpperCase().replaceAll('-', '_')}`)
  }
})

t.test('docs/configuration.md lists the settings as the code has them', async (t) => {
  const page = readFileSync(new URL('../docs/configuration.md', import.meta.url), 'utf8')
  const rows = page.split('\n').filter((line) => line.startsWith('| `'))
  t.same(rows, table.map(row))
})

/** A setting's line in the table of docs/configuration.md. */
function row([key, { flag, env, unit, default: value, meaning, many, notInFile }]: [
  string,
  Setting<unknown>,
]): string {
  const inFile = notInFile ? `${key} (not in the file)` : `\`${key}\``
  const units = many ? `list of ${unit}` : unit
  return `| \`${flag}\` | \`${env}\` | ${inFile} | ${units} | ${value === null ? '–' : `\`${value}\``} | ${meaning} |`
}
