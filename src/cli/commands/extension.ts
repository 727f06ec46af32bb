import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { parseOperation } from '../../domain/extension.ts'
import { PawlError } from '../../errors.ts'
import type { ExtensionKeysView, ExtensionView } from '../answers.ts'
import { readCertificates } from '../certificate-file.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { toned } from '../text.ts'
import { argument, ifRevision, type RevisionFlag } from '../values.ts'

/** Adds `pawl extension …`. */
export function addExtensionCommands(program: Command, context: Context): void {
  const extension = program
    .command('extension')
    .description('Services of yours that booting nodes may ask, through Pawl.')
  addApply(extension, context)
  addList(extension, context)
  addShow(extension, context)
  addRemove(extension, context)
  addKeys(extension, context)
  addRotate(extension, context)
}

interface ApplyFlags extends RevisionFlag {
  readonly file: string
  readonly ca?: string
  readonly clientCertificate?: string
  readonly clientKey?: string
}

function addApply(extension: Command, context: Context): void {
  const command = extension
    .command('apply')
    .description(
      'Make or change an extension from a YAML file. A clientKey of "***", as `extension show` prints it, keeps the stored one; {fromEnv: NAME} and {fromFile: PATH} read it, the URL or a certificate here.',
    )
    .requiredOption('-f, --file <FILE>', 'the file; "-" reads stdin')
    .option('--ca <FILE>', 'the only roots the service is believed by (PEM)')
    .option('--client-certificate <FILE>', 'what we show the service (PEM)')
    .option('--client-key <FILE>', 'its key (PEM); kept sealed, never shown')
    .addOption(ifRevision())
    .action((flags: ApplyFlags) =>
      withApi(context, async (api) => {
        const { readExtension } = await import('../extension-file.ts') // schemas take time to load: only who needs them waits
        const { orTellFaults } = await import('../fleet-plan-view.ts')
        const { document, warnings } = await orTellFaults(context, () =>
          readExtension(flags.file, context.io),
        )
        const { operation, ...settings } = document
        const applied = await api.put<ExtensionView>(
          extensionPath(operation),
          { ...settings, ...filesOf(flags) },
          { revision: flags.ifRevision },
        )
        answer(context, applied, () =>
          context.output.line(`extension "${applied.operation}" applied, revision ${applied.revision}`),
        )
        for (const warning of warnings) context.output.warning(warning)
      }),
    )
  withExamples(command, [
    'pawl extension apply -f allocate.yaml --ca service-ca.pem',
    'pawl extension show allocate_k8s_token > a.yaml  # change it, then:',
    'pawl extension apply -f a.yaml --if-revision 3',
  ])
}

function filesOf({ ca, clientCertificate, clientKey }: ApplyFlags): Record<string, string> {
  return {
    ...(ca === undefined ? {} : { ca: readCertificates(ca) }),
    ...(clientCertificate === undefined ? {} : { clientCertificate: readCertificates(clientCertificate) }),
    ...(clientKey === undefined ? {} : { clientKey: readKey(clientKey) }),
  }
}

function readKey(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new PawlError('not-found', `${file} cannot be read`, { cause })
  }
}

function addList(extension: Command, context: Context): void {
  const command = extension
    .command('list')
    .description('Extensions by name.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<ExtensionView>(api, '/extensions')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl extension list'])
}

function showList({ output, io }: Context, extensions: readonly ExtensionView[]): void {
  if (extensions.length === 0) {
    output.note('no extensions')
    return
  }
  output.table(
    [
      { title: 'OPERATION', min: 12 },
      { title: 'URL', min: 24, drop: 1 },
      { title: 'SECONDS', align: 'right', drop: 4 },
      { title: 'BYTES', align: 'right', drop: 5 },
      { title: 'TRUSTS', min: 6, drop: 3 },
      { title: 'CHANGED', align: 'right', min: 7, drop: 2 },
    ],
    extensions.map((one) => [
      one.operation,
      one.unreadable ? toned('bad', 'unreadable') : one.url,
      String(one.timeoutSeconds),
      String(one.maxAnswerBytes),
      one.ca === null ? 'system' : 'own CA',
      formatAge(one.updatedAt, io.now()),
    ]),
  )
}

function addShow(extension: Command, context: Context): void {
  const command = extension
    .command('show')
    .description('An extension as YAML that `extension apply` reads back. Its client key is "***".')
    .argument('<operation>', 'the extension')
    .action((operation: string) =>
      withApi(context, async (api) => {
        const found = await api.get<ExtensionView>(extensionPath(operation))
        const { asciiYaml } = await import('../yaml-text.ts')
        answer(context, found, () => {
          for (const line of asciiYaml(writtenAs(found))) context.output.line(line)
        })
        if (found.unreadable) context.output.warning(unreadable(found))
      }),
    )
  withExamples(command, ['pawl extension show allocate_k8s_token'])
}

/** An extension as a file has it. */
function writtenAs(view: ExtensionView): Record<string, unknown> {
  const { revision: _r, unreadable: _n, createdAt: _c, createdBy: _b, updatedAt: _u, ...settings } = view
  return settings
}

function unreadable({ operation, clientKey }: ExtensionView): string {
  const what = clientKey === null ? 'the URL' : 'the URL or client key'
  return `${what} of "${operation}" was sealed with another pki/settings.key, and no node gets an answer: apply it again with the values themselves, or restore that key`
}

function addRemove(extension: Command, context: Context): void {
  const command = extension
    .command('remove')
    .description('Remove an extension that no profile allows.')
    .argument('<operation>', 'the extension')
    .addOption(ifRevision())
    .action((operation: string, { ifRevision: revision }: RevisionFlag) =>
      withApi(context, async (api) => {
        await api.delete(extensionPath(operation), { revision })
        answer(context, { operation, removed: true }, () =>
          context.output.line(`extension "${operation}" removed`),
        )
      }),
    )
  withExamples(command, ['pawl extension remove allocate_k8s_token'])
}

function addKeys(extension: Command, context: Context): void {
  const command = extension
    .command('keys')
    .description('The keys by which services know that it is us, and where they find them.')
    .action(() =>
      withApi(context, async (api) => {
        showKeys(context, await api.get<ExtensionKeysView>('/extension-keys'))
      }),
    )
  withExamples(command, ['pawl extension keys', 'pawl extension keys --json'])
}

function addRotate(extension: Command, context: Context): void {
  const command = extension
    .command('rotate-key')
    .description('Make the next key: published now, signing in 15 minutes, when services know it.')
    .option('--at-once', 'it signs now, and those before are withdrawn: they are known to others')
    .action(({ atOnce }: { atOnce?: true }) =>
      withApi(context, async (api) => {
        const body = atOnce === true ? { atOnce } : undefined
        showKeys(context, await api.post<ExtensionKeysView>('/extension-keys/rotate', body))
      }),
    )
  withExamples(command, ['pawl extension rotate-key', 'pawl extension rotate-key --at-once'])
}

function showKeys(context: Context, keys: ExtensionKeysView): void {
  answer(context, keys, () => {
    const { output } = context
    output.fields([
      { name: 'issuer', value: keys.issuer },
      { name: 'key set', value: keys.jwksUrl },
    ])
    output.table(
      [
        { title: 'KEY', min: 12 },
        { title: 'STATE', min: 7 },
        { title: 'SIGNS FROM', min: 12, drop: 2 },
        { title: 'UNTIL', min: 5, drop: 1 },
      ],
      keys.items.map(({ kid, signing, signsFrom, endsAt }) => [
        kid,
        signing ? toned('good', 'signs') : endsAt === null ? 'next' : 'before',
        formatTime(signsFrom),
        endsAt === null ? '-' : formatTime(endsAt),
      ]),
    )
  })
}

function extensionPath(operation: string): string {
  return `/extensions/${argument(operation, parseOperation)}`
}
