import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { parsePublisherName } from '../../domain/publisher.ts'
import { PawlError } from '../../errors.ts'
import type { PublisherView, RegisteredPublisher, RevokedPublisher } from '../answers.ts'
import { type Api, pathOf } from '../api.ts'
import { readCertificates } from '../certificate-file.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { showProposed } from '../proposed.ts'
import { type Piece, toned } from '../text.ts'
import { argument } from '../values.ts'

/** Adds `pawl publisher …`. */
export function addPublisherCommands(program: Command, context: Context): void {
  const publisher = program.command('publisher').description('Who may sign images.')
  addCreate(publisher, context)
  addAdd(publisher, context)
  addList(publisher, context)
  addShow(publisher, context)
  addRevoke(publisher, context)
}

function addCreate(publisher: Command, context: Context): void {
  const command = publisher
    .command('create')
    .description(
      "Make a key here, and have the server's CA make its code-signing certificate. The key stays here; its file overwrites nothing.",
    )
    .argument('<name>', 'the publisher')
    .requiredOption('--key <FILE>', 'the new file of the key (0600); a key that is there is used')
    .requiredOption('--cert <FILE>', 'the new file of the certificate and those it leads to')
    .action((name: string, files: { key: string; cert: string }) =>
      withApi(context, async (api) => {
        const made = await create(api, argument(name, parsePublisherName), files)
        answer(context, made, () =>
          context.output.line(`publisher "${made.name}" may sign until ${formatTime(made.expiresAt)}`),
        )
      }),
    )
  withExamples(command, ['pawl publisher create ci-2026 --key ci.key --cert ci.crt'])
}

/** The key's file is written before its certificate is asked for: a certificate without a key would be of no use to anyone. */
async function create(
  api: Api,
  name: string,
  files: { readonly key: string; readonly cert: string },
): Promise<PublisherView> {
  const { createFile, readSecretFile, writeSecretFile } = await import('../../pki/key-file.ts')
  const { generateKey, makeSigningRequest } = await import('../../pki/x509.ts')
  const { signingKeyBits } = await import('../../pki/profiles.ts')
  if (existsSync(files.cert)) throw taken(files.cert)
  if (!existsSync(files.key)) writeSecretFile(files.key, await generateKey(signingKeyBits))
  const request = await makeSigningRequest(readSecretFile(files.key), `Pawl publisher ${name}`.slice(0, 64))
  const made = await api.create<PublisherView>('/publishers/issue', { name, request })
  if (!createFile(files.cert, made.certificates, 0o644)) throw taken(files.cert)
  return made
}

function taken(file: string): PawlError {
  return new PawlError('exists', `${file} exists already`, {
    hint: 'name a new file; pawl publisher show NAME --pem prints a certificate again',
  })
}

function addAdd(publisher: Command, context: Context): void {
  const command = publisher
    .command('add')
    .description('Let the holder of a certificate of your own sign images.')
    .argument('<name>', 'the publisher')
    .requiredOption('--cert <FILE>', 'its certificate for code signing (PEM), then those it leads to')
    .action((text: string, { cert }: { cert: string }) =>
      withApi(context, async (api) => {
        const name = argument(text, parsePublisherName)
        const added = await api.create<RegisteredPublisher>('/publishers', {
          name,
          certificates: readCertificates(cert),
        })
        answer(context, added, () => {
          const { publisher, proposal } = added
          if (proposal !== null) return showProposed(context.output, proposal)
          context.output.line(
            `publisher "${publisher.name}" may sign until ${formatTime(publisher.expiresAt)}`,
          )
        })
      }),
    )
  withExamples(command, ['pawl publisher add build-farm --cert farm.crt'])
}

function addList(publisher: Command, context: Context): void {
  const command = publisher
    .command('list')
    .description('Publishers by name; revoked ones too.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<PublisherView>(api, '/publishers')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl publisher list'])
}

function addShow(publisher: Command, context: Context): void {
  const command = publisher
    .command('show')
    .description('All about one publisher.')
    .argument('<name>', 'the publisher')
    .option('--pem', 'print its certificates only, for images/trust.sh and pawl image verify --trust')
    .action((name: string, { pem }: { pem?: true }) =>
      withApi(context, async (api) => {
        const found = await api.get<PublisherView>(`/publishers${pathOf(argument(name, parsePublisherName))}`)
        answer(context, found, () => {
          if (pem) for (const line of found.certificates.trimEnd().split('\n')) context.output.line(line)
          else show(context, found)
        })
      }),
    )
  withExamples(command, ['pawl publisher show local', 'pawl publisher show local --pem > local.crt'])
}

function addRevoke(publisher: Command, context: Context): void {
  const command = publisher
    .command('revoke')
    .description(
      'Take back that a publisher may sign, at once and for ever. What it alone signed boots no more where signatures are wanted.',
    )
    .argument('<name>', 'the publisher')
    .action((name: string) =>
      withApi(context, async (api) => {
        const path = `/publishers${pathOf(argument(name, parsePublisherName))}`
        const revoked = await api.delete<RevokedPublisher>(path)
        answer(context, revoked, () => context.output.line(`publisher "${revoked.name}" is revoked`))
        for (const ref of revoked.onlySigned)
          context.output.warning(`${ref} has no other signature: sign it again with pawl image sign ${ref}`)
      }),
    )
  withExamples(command, ['pawl publisher revoke ci-2025'])
}

function showList({ output, io }: Context, publishers: readonly PublisherView[]): void {
  if (publishers.length === 0) {
    output.note('no publishers')
    return
  }
  output.table(
    [
      { title: 'NAME', min: 8 },
      { title: 'STATE', min: 21 },
      { title: 'FINGERPRINT', min: 12, drop: 2 },
      { title: 'SUBJECT', min: 16, drop: 3 },
      { title: 'AGO', align: 'right', min: 6, drop: 1 },
    ],
    publishers.map((one) => [
      one.name,
      stateOf(one, io.now()),
      one.fingerprint.slice(0, 12),
      one.subject,
      formatAge(one.createdAt, io.now()),
    ]),
  )
}

function show({ output, io }: Context, one: PublisherView): void {
  output.fields([
    { name: 'publisher', value: toned('strong', one.name) },
    { name: 'state', value: stateOf(one, io.now()) },
    { name: 'subject', value: one.subject },
    { name: 'fingerprint', value: one.fingerprint },
    {
      name: 'registered',
      value: `${formatTime(one.createdAt)} by ${one.createdBy.replace(/^operator:/, '')}`,
    },
    ...(one.revokedAt === null
      ? []
      : [
          {
            name: 'revoked',
            value: `${formatTime(one.revokedAt)} by ${(one.revokedBy ?? '').replace(/^operator:/, '')}`,
          },
        ]),
  ])
}

function stateOf({ revokedAt, expiresAt }: PublisherView, now: Date): Piece {
  if (revokedAt !== null) return toned('bad', 'revoked')
  return Date.parse(expiresAt) <= now.getTime()
    ? toned('warn', 'expired: signs nothing new')
    : `good until ${formatTime(expiresAt)}`
}
