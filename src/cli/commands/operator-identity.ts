import { existsSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { PawlError } from '../../errors.ts'
import type { CertificateView, IssuedCertificate, PersonView, SessionView } from '../answers.ts'
import { pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { standingOf, usedOf } from '../standing.ts'
import { parseDuration } from '../values.ts'

/** Adds `pawl operator session`, `person` and `certificate`. */
export function addIdentityCommands(operator: Command, context: Context): void {
  const session = operator.command('session').description('Browsers that are signed in.')
  addSessionList(session, context)
  addSessionRevoke(session, context)
  const person = operator.command('person').description('People who signed in through the provider.')
  addPersonList(person, context)
  addPersonRemove(person, context)
  const certificate = operator.command('certificate').description('Client certificates of machines.')
  addCreate(certificate, context)
  addList(certificate, context)
  addRevoke(certificate, context)
}

function addSessionList(session: Command, context: Context): void {
  const { output, io } = context
  const command = session
    .command('list')
    .description('Browsers that are signed in now, the latest first.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<SessionView>(api, '/operator-sessions')
        answer(context, page, () => {
          if (page.items.length === 0) return output.note('nobody is signed in')
          output.table(
            [
              { title: 'ID', min: 12 },
              { title: 'NAME', min: 12 },
              { title: 'ROLE', min: 9 },
              { title: 'FROM', min: 9 },
              { title: 'SEEN', align: 'right', min: 6 },
              { title: 'UNTIL', min: 10 },
            ],
            page.items.map((one) => [
              one.id,
              one.name,
              one.role,
              one.source,
              formatAge(one.lastSeenAt, io.now()),
              formatTime(one.expiresAt),
            ]),
          )
        })
      }),
    )
  withExamples(command, ['pawl operator session list'])
}

function addSessionRevoke(session: Command, context: Context): void {
  const command = session
    .command('revoke')
    .description('Sign a browser out, at once.')
    .argument('<id>', 'its id, as list shows it')
    .action((id: string) =>
      withApi(context, async (api) => {
        await api.delete(`/operator-sessions${pathOf(id)}`)
        answer(context, { id }, () => context.output.line(`session ${id} is over`))
      }),
    )
  withExamples(command, ['pawl operator session revoke 6fkH0cTn3JvS'])
}

function addPersonList(person: Command, context: Context): void {
  const { output, io } = context
  const command = person
    .command('list')
    .description('Everyone who ever signed in, by name.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<PersonView>(api, '/people')
        answer(context, page, () => {
          if (page.items.length === 0) return output.note('nobody has signed in')
          output.table(
            [
              { title: 'NAME', min: 12 },
              { title: 'SUBJECT', min: 8 },
              { title: 'ISSUER', min: 12 },
              { title: 'SEEN', align: 'right', min: 6 },
            ],
            page.items.map((one) => [one.name, one.subject, one.issuer, formatAge(one.lastSeenAt, io.now())]),
          )
        })
      }),
    )
  withExamples(command, ['pawl operator person list'])
}

function addPersonRemove(person: Command, context: Context): void {
  const command = person
    .command('remove')
    .description(
      'End all sessions and tokens of a person at once, and free the name. Who still has a role at the provider can sign in again.',
    )
    .argument('<name>', 'the person, as list shows it')
    .action((name: string) =>
      withApi(context, async (api) => {
        const removed = await api.delete<{ name: string; tokens: number }>(`/people${pathOf(name)}`)
        answer(context, removed, () => context.output.line(`${removed.name} is signed out everywhere`))
      }),
    )
  withExamples(command, ['pawl operator person remove oidc/jane@example.com'])
}

interface CreateFlags {
  readonly name: string
  readonly role: string
  readonly scope?: string
  readonly expires?: number
  readonly outKey?: string
  readonly outCert?: string
}

function addCreate(certificate: Command, context: Context): void {
  const command = certificate
    .command('create')
    .description(
      'Make a key here, and have the server certify it. The key stays here; its file overwrites nothing.',
    )
    .requiredOption('--name <N>', 'the machine; events name it cert/N')
    .addOption(
      new Option('--role <ROLE>', 'what it may do')
        .choices(['viewer', 'operator', 'publisher', 'admin'])
        .makeOptionMandatory(),
    )
    .option('--expires <TIME>', 'how long it is good: 12h, 90d; without it, 90 days', parseDuration)
    .option('--scope <GLOB>', 'for publishers: the names of the images it is for')
    .option('--out-key <FILE>', 'the new file of the key (0600), else N.key; a key that is there is used')
    .option('--out-cert <FILE>', 'the new file of the certificate, else N.crt')
    .action((flags: CreateFlags) => create(context, flags))
  withExamples(command, ['pawl operator certificate create --name ci --role publisher --expires 30d'])
}

/** The key's file is written before its certificate is asked for: a certificate without a key would be of no use to anyone. */
async function create(
  context: Context,
  { expires, outKey: key, outCert: cert, ...asked }: CreateFlags,
): Promise<void> {
  const [outKey, outCert] = [key ?? `${asked.name}.key`, cert ?? `${asked.name}.crt`]
  const { createFile, readSecretFile, writeSecretFile } = await import('../../pki/key-file.ts')
  const { generateKey, makeSigningRequest } = await import('../../pki/x509.ts')
  // The name becomes files here: the server's rule for it holds before anything is written.
  if (!/^[a-z0-9](?:[a-z0-9._@-]{0,61}[a-z0-9])?$/.test(asked.name))
    throw new PawlError(
      'usage',
      `--name ${JSON.stringify(asked.name.slice(0, 80))} is no name: lower-case letters, digits, ".", "_", "@" or "-"`,
    )
  const taken = new PawlError('exists', `${outCert} exists already`, { hint: 'name a new file' })
  if (existsSync(outCert)) throw taken
  await withApi(context, async (api) => {
    if (!existsSync(outKey)) writeSecretFile(outKey, await generateKey(3072))
    const request = await makeSigningRequest(
      readSecretFile(outKey),
      `Pawl operator ${asked.name}`.slice(0, 64),
    )
    const expiresAt =
      expires === undefined ? undefined : new Date(context.io.now().getTime() + expires * 1000).toISOString()
    const made = await api.create<IssuedCertificate>('/operator-certificates', {
      ...asked,
      expiresAt,
      request,
    })
    if (!createFile(outCert, made.certificate, 0o644)) throw taken
    answer(context, made, () =>
      context.output.line(
        `certificate ${made.id} for cert/${made.name} (${made.role}) is good until ${formatTime(made.expiresAt)}`,
      ),
    )
  })
}

function addList(certificate: Command, context: Context): void {
  const { output, io } = context
  const command = certificate
    .command('list')
    .description('Every client certificate, the newest first.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<CertificateView>(api, '/operator-certificates')
        answer(context, page, () => {
          if (page.items.length === 0) return output.note('no client certificates')
          output.table(
            [
              { title: 'ID', min: 12 },
              { title: 'NAME', min: 8 },
              { title: 'ROLE', min: 9 },
              { title: 'SCOPE', min: 6 },
              { title: 'STATE', min: 10 },
              { title: 'USED', min: 6 },
            ],
            page.items.map((one) => [
              one.id,
              one.name,
              one.role,
              one.scope ?? '',
              standingOf(one, io.now()),
              usedOf(one, io.now()),
            ]),
          )
        })
      }),
    )
  withExamples(command, ['pawl operator certificate list'])
}

function addRevoke(certificate: Command, context: Context): void {
  const command = certificate
    .command('revoke')
    .description('Take a client certificate back, at once and for ever.')
    .argument('<id>', 'its id, as list shows it')
    .action((id: string) =>
      withApi(context, async (api) => {
        const revoked = await api.delete<CertificateView>(`/operator-certificates${pathOf(id)}`)
        answer(context, revoked, () =>
          context.output.line(`certificate ${revoked.id} of cert/${revoked.name} is revoked`),
        )
      }),
    )
  withExamples(command, ['pawl operator certificate revoke 6fkH0cTn3JvS'])
}
