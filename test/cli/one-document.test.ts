import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { readExtension } from '../../src/cli/extension-file.ts'
import { FileFaults, loadFleet } from '../../src/cli/fleet-files.ts'
import type { ReadDocument } from '../../src/cli/one-document.ts'
import { readProfile } from '../../src/cli/profile-file.ts'
import { isPawlError } from '../../src/errors.ts'
import { temporaryFolder } from './helpers/installation.ts'

/** A folder with a document and its secrets. */
function folderOf(t: Test, content: string): string {
  const folder = temporaryFolder(t)
  mkdirSync(join(folder, 'secrets'))
  writeFileSync(join(folder, 'a.yaml'), content)
  writeFileSync(join(folder, 'secrets/token'), 'abcdef.0123456789abcdef\nnot read\n')
  writeFileSync(join(folder, 'secrets/service.pem'), 'first\nsecond\n')
  writeFileSync(join(folder, 'secrets/url'), 'https://tokens.example.com/?key=hunter2\n')
  return folder
}

const sources = (env: Record<string, string>) => ({ stdin: Readable.from(['']), env })

/** What is read of a document, or what is wrong with it, without the folder it is in. */
async function reading(folder: string, read: () => Promise<unknown>): Promise<unknown> {
  try {
    return await read()
  } catch (error) {
    const faults = error instanceof FileFaults ? error.faults : isPawlError(error) ? [error] : undefined
    if (faults === undefined) throw error
    return faults.map(({ message }) => message.replaceAll(`${folder}/`, ''))
  }
}

type Read = (file: string, from: ReturnType<typeof sources>) => Promise<ReadDocument<unknown>>

async function readIn(
  t: Test,
  read: Read,
  content: string,
  env: Record<string, string> = {},
): Promise<unknown> {
  const folder = folderOf(t, content)
  return reading(folder, async () => {
    const { document, warnings } = await read(join(folder, 'a.yaml'), sources(env))
    return [document, warnings.map((text) => text.replaceAll(`${folder}/`, ''))]
  })
}

/** What fleet files say of the same document. */
async function inFleetFile(
  t: Test,
  kind: string,
  content: string,
  env: Record<string, string> = {},
): Promise<unknown> {
  const folder = folderOf(t, `${content}kind: ${kind}\n`)
  return reading(folder, async () => {
    const { fleet, warnings } = await loadFleet([join(folder, 'a.yaml')], sources(env))
    const [document] = kind === 'Profile' ? fleet.profiles : fleet.extensions
    return [document, warnings.map((text) => text.replaceAll(`${folder}/`, ''))]
  })
}

const profile = (token: string): string => `name: worker
boot:
  stage2: a@1
  stage3: b@1
  join:
    kind: kubeadm
    settings:
      endpoint: 192.0.2.1:6443
      token: ${token}
      caCertHash: sha256:${'a'.repeat(64)}
leave: {kind: webhook, url: "https://x.example.test/", secret: {fromEnv: HOOK}}
`
const hook = { HOOK: `whsec_${Buffer.alloc(32, 3).toString('base64')}` }
const tokenOf = (read: unknown): unknown =>
  (read as [{ boot: { join: { settings: { token: unknown } } } }])[0].boot.join.settings.token

t.test(
  'a profile in a file of its own takes its secrets from where they are, as fleet files do',
  async (t) => {
    const token = 'abcdef.0123456789abcdef'
    const from = (text: string): Promise<unknown> =>
      readIn(t, readProfile, profile(text), { ...hook, TOKEN: token })
    t.equal(tokenOf(await from('{fromEnv: TOKEN}')), token)
    t.equal(tokenOf(await from('{fromFile: secrets/token}')), token)
    t.equal(tokenOf(await from('"***"')), '***')
    t.match(await from(token), [
      { leave: { secret: hook.HOOK } },
      [/^a.yaml:9:\d+: boot.join.settings.token is in the file/],
    ])
  },
)

t.test('with the same faults, each at its place', async (t) => {
  for (const [token, env, faults] of [
    [
      '{fromEnv: TOKEN}',
      hook,
      [/^a.yaml:9:\d+: boot.join.settings.token comes from the .* TOKEN, which is not set$/],
    ],
    [
      '{fromEnv: TOKEN}',
      { ...hook, TOKEN: 'hunter2' },
      [/^a.yaml:9:\d+: .*token has not the form that it must have$/],
    ],
    [
      '{fromFile: nowhere}',
      {},
      [/comes from nowhere, which cannot be read \(ENOENT\)$/, /^a.yaml:11:\d+: leave.secret comes from/],
    ],
    ['{fromFile: /dev/zero}', hook, [/comes from \/dev\/zero, which is no file$/]],
    ['{from: TOKEN}', hook, [/^a.yaml:9:\d+: unknown field boot.join.settings.token.from/, /./]],
  ] as const) {
    const found = await readIn(t, readProfile, profile(token), env)
    t.match(found, faults, token)
    t.same(found, await inFleetFile(t, 'Profile', profile(token), env), token)
    t.notMatch(JSON.stringify(found), 'hunter2')
  }
})

t.test('only what is secret can come from elsewhere', async (t) => {
  t.match(await readIn(t, readProfile, 'name: {fromEnv: HOME}\nboot: local\n'), [
    /^a.yaml:1:\d+: name must be text$/,
  ])
  t.match(await readIn(t, readExtension, 'operation: {fromEnv: HOME}\nurl: https://a.example.com/\n'), [
    /^a.yaml:1:\d+: operation must be text$/,
  ])
})

t.test(
  'an extension takes its URL, certificates and key from where they are, in either kind of file',
  async (t) => {
    const extension = `operation: token
url: {fromFile: secrets/url}
ca: {fromFile: secrets/service.pem}
clientCertificate: {fromEnv: CERTIFICATE}
clientKey: {fromFile: secrets/service.pem}
`
    const read = {
      ...{ operation: 'token', url: 'https://tokens.example.com/?key=hunter2', ca: 'first\nsecond\n' },
      ...{ clientCertificate: 'PEM', clientKey: 'first\nsecond\n' },
    }
    const env = { CERTIFICATE: 'PEM' }
    t.same(await readIn(t, readExtension, extension, env), [read, []])
    t.same(await inFleetFile(t, 'Extension', extension, env), [read, []])
    for (const [change, faults] of [
      [
        ['secrets/url', 'nowhere'],
        [/^a.yaml:2:\d+: url comes from nowhere, which cannot be read \(ENOENT\)$/],
      ],
      [['secrets/url', 'secrets/token'], [/^a.yaml:2:\d+: url has not the form that it must have$/]],
      [
        ['CERTIFICATE', 'NONE'],
        [/^a.yaml:4:\d+: clientCertificate comes from the .* NONE, which is not set$/],
      ],
      [
        ['operation: token', 'timeoutSeconds: 30'],
        [/^a.yaml:1:\d+: operation is missing$/, /timeoutSeconds must be <= 25$/],
      ],
      [['ca:', 'caFile:'], [/^a.yaml:3:\d+: unknown field caFile$/]],
    ] as const) {
      const content = extension.replace(...(change as [string, string]))
      const found = await readIn(t, readExtension, content, env)
      t.match(found, faults, change[1])
      t.same(found, await inFleetFile(t, 'Extension', content, env), change[1])
    }
    t.match(await readIn(t, readExtension, 'operation: a\nurl: https://a.example.com/\nclientKey: text\n'), [
      {},
      [/^a.yaml:3:\d+: clientKey is in the file as it is/],
    ])
  },
)
