import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Command, Option } from 'commander'
import { parseNodeName } from '../../domain/node.ts'
import { PawlError } from '../../errors.ts'
import type { IssuedNodeCertificate, NodeCertificateView } from '../answers.ts'
import { pathOf } from '../api.ts'
import { readCertificates } from '../certificate-file.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { standingOf, usedOf } from '../standing.ts'
import { argument, ifRevision, nodePath, parseDuration, type RevisionFlag } from '../values.ts'

interface IssueFlags extends RevisionFlag {
  readonly request?: string
  readonly out?: string
  readonly keyOut?: string
  readonly certOut?: string
  readonly expires?: number
}

/** Adds `pawl node certificate …`. */
export function addCertificateCommands(node: Command, context: Context): void {
  const certificate = node
    .command('certificate')
    .description('Client certificates of a node: evidence that its own key is behind a boot.')
  addIssue(certificate, context)
  addList(certificate, context)
  addRevoke(certificate, context)
}

function addIssue(certificate: Command, context: Context): void {
  const command = certificate
    .command('issue')
    .description(
      'Make a key here, and have the server certify it for the node; or have it certify the key of a request. Those the node has stay good.',
    )
    .argument('<name>', 'the node')
    .addOption(
      new Option(
        '--out <FILE>',
        'the new file (0600) of key and certificate together, as boot media have it',
      ).conflicts(['request', 'keyOut', 'certOut']),
    )
    .addOption(
      new Option('--key-out <FILE>', 'the new file (0600) of the key: RSA, which every iPXE takes').conflicts(
        'request',
      ),
    )
    .option('--cert-out <FILE>', 'the new file of the certificate and its CA')
    .option(
      '--request <FILE>',
      'a certificate request (PKCS#10, PEM) for a key made elsewhere: RSA, P-256 or P-384',
    )
    .option('--expires <TIME>', 'how long it is good: 90d, 52w; without it, 365 days', parseDuration)
    .addOption(ifRevision())
    .action((name: string, flags: IssueFlags) => issue(context, argument(name, parseNodeName), flags))
  withExamples(command, [
    'pawl node certificate issue mlab1 --out mlab1.pem',
    'pawl node certificate issue mlab1 --out m.pem --expires 730d',
    'pawl node certificate issue mlab1 --request mlab1.csr --cert-out mlab1.crt',
  ])
}

/**
 * A key's file is written before its certificate is asked for: a certificate without a key would be of no use to anyone. Key
 * and certificate in one file are written together, at the end: until then the key is in memory only.
 */
async function issue(context: Context, name: string, flags: IssueFlags): Promise<void> {
  checkFlags(flags)
  const { out, keyOut, certOut, request: requestFile, expires } = flags
  const { createFile, writeSecretFile } = await import('../../pki/key-file.ts')
  const { generateKey, makeSigningRequest } = await import('../../pki/x509.ts')
  for (const file of [out, keyOut, certOut]) if (file !== undefined) checkNew(file)
  const key = requestFile === undefined ? await generateKey() : undefined
  const request =
    key === undefined
      ? readCertificates(requestFile ?? '')
      : await makeSigningRequest(key, `Pawl node ${name}`.slice(0, 64))
  if (keyOut !== undefined && key !== undefined && !writeSecretFile(keyOut, key)) throw taken(keyOut)
  const end =
    expires === undefined ? {} : { expiresAt: new Date(context.io.now().getTime() + expires * 1000) }
  await withApi(context, async (api) => {
    const made = await api.create<IssuedNodeCertificate>(
      `${nodePath(name)}/certificates`,
      { request, ...end },
      { revision: flags.ifRevision },
    )
    if (out !== undefined && !writeSecretFile(out, `${key}${made.certificate}`)) throw taken(out)
    if (certOut !== undefined && !createFile(certOut, made.certificate, 0o644)) throw taken(certOut)
    const { certificate, ...about } = made
    answer(context, certOut === undefined && out === undefined ? made : about, () => {
      if (certOut === undefined && out === undefined) return context.output.line(certificate.trimEnd())
      context.output.line(
        `certificate ${made.fingerprint.slice(0, 16)} of node "${name}" (${made.keyType}) is good until ${formatTime(made.expiresAt)}`,
      )
    })
  })
}

function checkFlags({ request, out, keyOut, certOut }: IssueFlags): void {
  if (request === undefined && out === undefined && (keyOut === undefined || certOut === undefined)) {
    throw new PawlError('usage', 'where is the key to go?', {
      hint: 'say --out FILE, or --key-out FILE and --cert-out FILE, or --request FILE for a key made elsewhere',
    })
  }
  if (keyOut !== undefined && keyOut === certOut)
    throw new PawlError('usage', '--key-out and --cert-out name one file', { hint: 'say --out FILE' })
}

/** Before anything is made: a certificate that was issued and cannot be written down is one more to take back. */
function checkNew(file: string): void {
  if (existsSync(file)) throw taken(file)
  const folder = dirname(file)
  if (!existsSync(folder)) throw new PawlError('not-found', `there is no folder ${folder}`)
}

function taken(file: string): PawlError {
  return new PawlError('exists', `${file} exists already`, { hint: 'name a new file' })
}

function addList(certificate: Command, context: Context): void {
  const { output, io } = context
  const command = certificate
    .command('list')
    .description("A node's certificates, the newest first.")
    .argument('<name>', 'the node')
    .action((name: string) =>
      withApi(context, async (api) => {
        const page = await wholeList<NodeCertificateView>(api, `${nodePath(name)}/certificates`)
        answer(context, page, () => {
          if (page.items.length === 0) return output.note(`node "${name}" has no certificate`)
          output.table(
            [
              { title: 'FINGERPRINT', min: 16 },
              { title: 'KEY', min: 8 },
              { title: 'STATE', min: 10 },
              { title: 'ISSUED BY', min: 8 },
              { title: 'USED', min: 6 },
            ],
            page.items.map((one) => [
              one.fingerprint.slice(0, 16),
              one.keyType,
              standingOf(one, io.now()),
              one.issuedBy.replace(/^operator:/, ''),
              usedOf(one, io.now()),
            ]),
          )
        })
      }),
    )
  withExamples(command, ['pawl node certificate list mlab1'])
}

function addRevoke(certificate: Command, context: Context): void {
  const command = certificate
    .command('revoke')
    .description('Take a certificate back, at once and for ever: a boot that needs it gets no further.')
    .argument('<name>', 'the node')
    .argument('<fingerprint>', 'of the certificate, as list shows it: eight digits or more')
    .addOption(ifRevision())
    .action((name: string, fingerprint: string, flags: RevisionFlag) =>
      withApi(context, async (api) => {
        if (!/^[0-9a-f:]{8,95}$/i.test(fingerprint))
          throw new PawlError(
            'usage',
            `${JSON.stringify(fingerprint.slice(0, 80))} is no fingerprint: eight hex digits or more`,
          )
        const path = `${nodePath(name)}/certificates${pathOf(fingerprint)}`
        const revoked = await api.delete<NodeCertificateView>(path, { revision: flags.ifRevision })
        answer(context, revoked, () =>
          context.output.line(`certificate ${revoked.fingerprint.slice(0, 16)} of node "${name}" is revoked`),
        )
      }),
    )
  withExamples(command, ['pawl node certificate revoke mlab1 5b0c71d2e9aa4410'])
}
