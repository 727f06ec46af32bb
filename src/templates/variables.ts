/**
 * Which templates there are, and which values each takes: one table. The types, the checks before rendering, the trial
 * rendering at start and the comment at the head of each template file are all held against it.
 */
import { parseOperation } from '../domain/extension.ts'
import { parseNodeName } from '../domain/node.ts'
import { PawlError } from '../errors.ts'
import {
  anyUrl,
  base64urlValue,
  base64Value,
  httpsUrl,
  ipxeWord,
  kernelArguments,
  plainUrl,
  sha256Hex,
  shellWord,
  variableName,
} from './ipxe-value.ts'
import { joinTemplateVariables } from './join-variables.ts'
import { type Entry, entriesOf, shellWords } from './record-value.ts'

/** One kind of value: its type, its check (throws `render-failed`, or `invalid`, naming the field), harmless examples. */
interface Kind<T> {
  readonly check: (value: T, name: string) => T
  /** Every case a template could treat differently. */
  readonly examples: readonly [T, ...T[]]
}

const token = 'AAAAAAAAAAAABBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB'

const kinds = {
  host: text((value) => parseNodeName(value), 'node1.example.com'),
  hostOrNone: text((value) => (value === '' ? '' : parseNodeName(value)), 'node1.example.com', ''),
  word: text(ipxeWord, 'word'),
  token: text(base64urlValue, token),
  tokenOrNone: text((value, name) => (value === '' ? '' : base64urlValue(value, name)), token, ''),
  wordOrNone: text((value, name) => (value === '' ? '' : ipxeWord(value, name)), 'word', ''),
  claimOrNone: text((value, name) => (value === '' ? '' : ipxeWord(value, name)), 'ab'.repeat(24), ''),
  httpsUrl: text(httpsUrl, 'https://boot.example.com:8443/v1/x'),
  httpUrlOrNone: text(
    (value, name) => (value === '' ? '' : plainUrl(value, name)),
    'http://cache.example.com:8080/v1/x',
    '',
  ),
  anyUrl: text(anyUrl, 'https://boot.example.com:8443/v1/x?y=z'),
  sha256: text(sha256Hex, '0'.repeat(64)),
  shellWord: text(shellWord, 'word'),
  shellWordOrNone: text((value, name) => (value === '' ? '' : shellWord(value, name)), 'word', ''),
  shellWords: kind<readonly string[]>(shellWords, ['word', 'other'], []),
  peers: kind<readonly Entry[]>(
    entriesOf({ publicKey: 'word', endpoint: 'wordOrNone', allowedIps: 'words', keepalive: 'wordOrNone' }),
    [
      { publicKey: 'word', endpoint: 'word', allowedIps: ['word', 'other'], keepalive: 'word' },
      { publicKey: 'word', endpoint: '', allowedIps: ['word'], keepalive: '' },
    ],
  ),
  lighthouses: kind<readonly Entry[]>(entriesOf({ address: 'word', endpoints: 'words' }), [
    { address: 'word', endpoints: ['word', 'other'] },
  ]),
  lists: kind<readonly Entry[]>(
    entriesOf({ name: 'word', values: 'words' }),
    [{ name: 'one', values: ['word', 'other'] }],
    [],
  ),
  base64: text(base64Value, 'dGV4dAo='),
  base64OrNone: text((value, name) => (value === '' ? '' : base64Value(value, name)), 'dGV4dAo=', ''),
  kernelArguments: kind<readonly string[]>(
    (value, name) => kernelArguments(listOfText(value, name), name),
    ['console=ttyS0', 'quiet'],
    [],
  ),
  extensions: kind<readonly ExtensionUrl[]>(
    checkExtensions,
    [{ operation: 'allocate_k8s_token', url: 'https://boot.example.com:8443/v1/x' }],
    [],
  ),
  settings: kind<readonly Setting[]>(checkSettings, [{ name: 'one', value: 'word' }], []),
  whenServerAbsent: kind<'retry' | 'local'>(
    (value, name) => {
      if (value !== 'retry' && value !== 'local') throw notA(name, '"retry" or "local"')
      return value
    },
    'retry',
    'local',
  ),
  flag: kind<boolean>(
    (value, name) => {
      if (typeof value !== 'boolean') throw notA(name, 'true or false')
      return value
    },
    true,
    false,
  ),
  count: kind<number>((value, name) => {
    if (!Number.isSafeInteger(value) || value < 0) throw notA(name, 'a whole number')
    return value
  }, 3),
}

/** Each template's variables and their kinds. */
export const templateVariables = {
  'stage1.ipxe': {
    host: 'host',
    session: 'token',
    kernelUrl: 'httpsUrl',
    initramfsUrl: 'httpsUrl',
    handoverUrl: 'httpsUrl',
    kernelMirrorUrl: 'httpUrlOrNone',
    initramfsMirrorUrl: 'httpUrlOrNone',
    capability: 'tokenOrNone',
    handoverToken: 'token',
    kernelArguments: 'kernelArguments',
    kernelSha256: 'sha256',
    initramfsSha256: 'sha256',
    verifyDigests: 'flag',
    verifySignatures: 'flag',
    signaturesUrl: 'httpsUrl',
    signatureCapability: 'token',
    uefi: 'flag',
    clientCertificate: 'flag',
    syslogServer: 'wordOrNone',
    syslogTls: 'flag',
  },
  'held.ipxe': { host: 'host', attempts: 'count' },
  'local-boot.ipxe': { host: 'host', uefi: 'flag' },
  'approved.ipxe': { host: 'host', claim: 'claimOrNone' },
  'rejected.ipxe': { code: 'word', until: 'word', seconds: 'count' },
  'pending.ipxe': {
    code: 'word',
    claim: 'claimOrNone',
    mac: 'word',
    uuid: 'word',
    serial: 'word',
    manufacturer: 'word',
    product: 'word',
  },
  'epoxy-stage1.ipxe': {
    stage1ChainUrl: 'anyUrl',
    stage2Url: 'anyUrl',
    stage3Url: 'anyUrl',
    reportUrl: 'anyUrl',
    imagesVersion: 'word',
    extensions: 'extensions',
  },
  'autoexec.ipxe': {
    publicUrl: 'httpsUrl',
    host: 'hostOrNone',
    secret: 'tokenOrNone',
    secretFile: 'flag',
    mac: 'wordOrNone',
    vlan: 'wordOrNone',
    address: 'wordOrNone',
    netmask: 'wordOrNone',
    prefixLength: 'wordOrNone',
    gateway: 'wordOrNone',
    dns: 'wordOrNone',
    whenServerAbsent: 'whenServerAbsent',
  },
  'join-none.sh': { host: 'host', session: 'token', profile: 'shellWord', settings: 'settings' },
  'join-cloud-init.sh': {
    host: 'host',
    session: 'token',
    profile: 'shellWord',
    seedUrl: 'httpsUrl',
    ca: 'base64',
    network: 'base64OrNone',
  },
  'join-ignition.sh': {
    host: 'host',
    session: 'token',
    profile: 'shellWord',
    seedUrl: 'httpsUrl',
    ca: 'base64',
  },
  'join-kubeadm.sh': {
    host: 'host',
    session: 'token',
    profile: 'shellWord',
    endpoint: 'shellWord',
    token: 'shellWord',
    caCertHash: 'shellWord',
  },
  ...joinTemplateVariables,
} as const satisfies Record<string, Record<string, keyof typeof kinds>>

type Table = typeof templateVariables
type ValueOf<K> = K extends keyof typeof kinds ? Parameters<(typeof kinds)[K]['check']>[0] : never

/** The name of one template: the file's name. */
export type TemplateName = keyof Table

/** What each template must be given: all of these, and nothing else. */
export type TemplateVariables = {
  readonly [N in TemplateName]: { readonly [V in keyof Table[N]]: ValueOf<Table[N][V]> }
}

/** Every template there is. */
export const templateNames = Object.keys(templateVariables) as TemplateName[] // the table's own keys

/**
 * Checks the values of one template and returns them as they are printed. Throws `render-failed`, or `invalid`, naming the
 * field: a value that is missing, of another type, unknown to this template, or that its place cannot carry.
 */
export function checkVariables(
  template: TemplateName,
  given: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const table: Readonly<Record<string, keyof typeof kinds>> = templateVariables[template]
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(table, name)) throw failed(template, `takes no variable "${name}"`)
  }
  return Object.fromEntries(
    Object.entries(table).map(([name, kind]) => {
      if (!Object.hasOwn(given, name)) throw failed(template, `is not given its variable "${name}"`)
      const { check } = kinds[kind] as Kind<unknown> // the check looks at the type itself
      return [name, check(given[name], `${template}: ${name}`)]
    }),
  )
}

/** Harmless values for one template: one set for each way that its flags, choices and lists can be combined. */
export function exampleVariables(template: TemplateName): Record<string, unknown>[] {
  const table: Readonly<Record<string, keyof typeof kinds>> = templateVariables[template]
  return Object.entries(table).reduce<Record<string, unknown>[]>(
    (sets, [name, kind]) =>
      sets.flatMap((set) => kinds[kind].examples.map((example) => ({ ...set, [name]: example }))),
    [{}],
  )
}

function kind<T>(check: Kind<T>['check'], ...examples: [T, ...T[]]): Kind<T> {
  return { check, examples }
}

function text(check: Kind<string>['check'], ...examples: [string, ...string[]]): Kind<string> {
  return kind((value, name) => check(asText(value, name), name), ...examples)
}

/** A setting of a join, as its script is given it. */
interface Setting {
  readonly name: string
  readonly value: string
}

/** An extension as ePoxy's stage 1 names it. */
interface ExtensionUrl {
  readonly operation: string
  readonly url: string
}

function checkExtensions(list: readonly ExtensionUrl[], where: string): ExtensionUrl[] {
  if (!Array.isArray(list)) throw notA(where, 'a list')
  return list.map((extension: ExtensionUrl) => {
    if (typeof extension !== 'object' || extension === null)
      throw notA(`${where}: entry`, 'a name with a URL')
    const operation = parseOperation(asText(extension.operation, `${where}: operation`))
    return {
      operation,
      url: httpsUrl(asText(extension.url, `${where}: ${operation}`), `${where}: ${operation}`),
    }
  })
}

function checkSettings(list: readonly Setting[], where: string): Setting[] {
  if (!Array.isArray(list)) throw notA(where, 'a list')
  return list.map((setting: Setting) => {
    if (typeof setting !== 'object' || setting === null) throw notA(`${where}: entry`, 'a name with a value')
    const name = variableName(asText(setting.name, `${where}: name`), `${where}: name`)
    return { name, value: shellWord(asText(setting.value, `${where}: ${name}`), `${where}: ${name}`) }
  })
}

function listOfText(list: readonly string[], name: string): string[] {
  if (!Array.isArray(list)) throw notA(name, 'a list')
  return list.map((value) => asText(value, name))
}

function asText(value: unknown, name: string): string {
  if (typeof value !== 'string') throw notA(name, 'text')
  return value
}

function notA(name: string, what: string): PawlError {
  return new PawlError('render-failed', `${name} is not ${what}`)
}

function failed(template: TemplateName, what: string): PawlError {
  return new PawlError('render-failed', `template ${template} ${what}`)
}
