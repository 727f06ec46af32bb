import { type Command, Option } from 'commander'
import { PawlError } from '../../errors.ts'
import type { IpxeBinaries, IpxeView } from '../../ipxe/view.ts'
import { dataFolderOf } from '../connection.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatSize } from '../format.ts'
import { bootsWords, ipxeBinaries, ipxeViews, trustWords } from '../ipxe-view.ts'
import { type Piece, toned } from '../text.ts'

/** Adds `pawl ipxe …`: the binaries in the server's data folder. They are large and trusted, so they are added there only. */
export function addIpxeCommands(program: Command, context: Context): void {
  const ipxe = program
    .command('ipxe')
    .description("The iPXE binaries that the server hands to machines: Debian's builds, or your own.")
  addFetch(ipxe, context)
  addAdd(ipxe, context)
  addList(ipxe, context)
  addTrust(ipxe, context)
  addRemove(ipxe, context)
}

const fromNowOn = 'a running server sends it from now on, by TFTP within 10 s'

function addFetch(ipxe: Command, context: Context): void {
  const command = ipxe
    .command('fetch')
    .description(
      "Take Debian's own builds of iPXE into the data folder; apt checks Debian's signatures. No root is needed.",
    )
    .addOption(
      new Option('--suite <SUITE>', 'trixie has iPXE 1.21.1, sid has 2.0.0')
        .choices(['trixie', 'sid'])
        .default('trixie'),
    )
    .action(async ({ suite }: { suite: 'trixie' | 'sid' }) => {
      const dataDir = await dataFolder(context)
      const { fetchIpxe } = await import('../../ipxe/fetch.ts')
      const { recipesFolder: recipes } = context.local
      const added = await fetchIpxe({ dataDir, suite, recipes, now: context.io.now() })
      const views = await ipxeViews(dataDir)
      const shown = views.filter(({ name }) => added.some((one) => one.name === name))
      answer(context, shown, () => showList(context, shown))
      context.output.note(fromNowOn)
    })
  withExamples(command, ['pawl ipxe fetch --data DIR', 'pawl ipxe fetch --suite sid --data DIR'])
}

function addAdd(ipxe: Command, context: Context): void {
  const command = ipxe
    .command('add')
    .description('Take a build of your own into the data folder. It is examined, never run.')
    .argument('<file>', 'an .efi, .kpxe, .pxe or .lkrn file')
    .option('--name <NAME>', "the name it is served by; else the file's")
    .action(async (file: string, { name }: { name?: string }) => {
      const dataDir = await dataFolder(context)
      const { addOwnIpxe } = await import('../../ipxe/own.ts')
      const added = await addOwnIpxe({ dataDir, file, name, now: context.io.now() })
      await showOne(context, dataDir, added.name)
      context.output.note(fromNowOn)
    })
  withExamples(command, [
    'pawl ipxe add ./bin-x86_64-efi/ipxe.efi --name ipxe-x86_64.efi --data DIR',
    'pawl ipxe add ./bin/ipxe.lkrn --data DIR',
  ])
}

function addList(ipxe: Command, context: Context): void {
  const command = ipxe
    .command('list')
    .description(
      'List the binaries: what they are, what they can, whom they trust, and which firmware boots from Pawl by them.',
    )
    .action(async () => {
      const { items, faults } = await binariesOf(context)
      answer(context, items, () => showList(context, items))
      for (const { name, message } of faults)
        context.output.warning(
          `${name} is not served: ${message}; take it away with pawl ipxe remove ${name}`,
        )
    })
  withExamples(command, ['pawl ipxe list', 'pawl ipxe list --data DIR --json'])
}

/** Of the data folder where one is given, whether its server runs or not; else of the server that is asked. */
async function binariesOf(context: Context): Promise<IpxeBinaries> {
  if (dataFolderOf(context.io.env, context.flags().data) !== undefined)
    return ipxeBinaries(await dataFolder(context))
  return withApi(context, (api) => api.get<IpxeBinaries>('/ipxe'))
}

interface TrustFlags {
  readonly root?: string
  readonly out?: string
  readonly breakSignature?: true
}

function addTrust(ipxe: Command, context: Context): void {
  const command = ipxe
    .command('trust')
    .description(
      'Write a copy of a UEFI binary that trusts one root certificate, ours unless another is named, and nobody else.',
    )
    .argument('<name|file>', 'a binary of pawl ipxe list, or a file')
    .option('--root <FILE>', "the root certificate, PEM; else the data folder's ca.crt")
    .option('--out <FILE>', 'write the copy there; else it is added to the data folder as NAME-trusting.efi')
    .option('--break-signature', 'change it although that breaks its Secure Boot signature')
    .action(async (what: string, flags: TrustFlags) => {
      const dataDir = await dataFolder(context)
      const { writeTrusting } = await import('../../ipxe/own.ts')
      const made = await writeTrusting({ dataDir, what, ...flags, now: context.io.now() })
      answer(context, made, () => {
        const { already, from, path, fingerprint } = made
        context.output.line(
          already ? `${from} trusts this root already` : `${path} trusts root ${fingerprint}`,
        )
      })
      if (made.brokeSignature)
        context.output.warning(`its Secure Boot signature is broken: sign ${made.path} with your own key`)
      if (made.added) context.output.note(fromNowOn)
    })
  withExamples(command, [
    'pawl ipxe trust ipxe-x86_64.efi --data DIR',
    'pawl ipxe trust ./ipxe.efi --root b.crt --out ipxe-b.efi --data DIR',
  ])
}

function addRemove(ipxe: Command, context: Context): void {
  const command = ipxe
    .command('remove')
    .description('Take a binary out of the data folder.')
    .argument('<name>', 'its name in pawl ipxe list')
    .action(async (name: string) => {
      const dataDir = await dataFolder(context)
      const { removeIpxe } = await import('../../ipxe/folder.ts')
      await removeIpxe(dataDir, name)
      answer(context, { name, removed: true }, () => context.output.line(`${name} is removed`))
      context.output.note('a running server sends it no more by HTTPS, by TFTP until a restart')
    })
  withExamples(command, ['pawl ipxe remove undionly.kpxe --data DIR'])
}

async function dataFolder(context: Context): Promise<string> {
  const dataDir = dataFolderOf(context.io.env, context.flags().data)
  if (dataDir === undefined) {
    throw new PawlError('usage', 'iPXE binaries are in the data folder of the server', {
      hint: "give --data DIR, on the server's machine",
    })
  }
  const { checkDataFolder } = await import('../../pki/data-folder.ts')
  checkDataFolder(dataDir)
  return dataDir
}

async function showOne(context: Context, dataDir: string, name: string): Promise<void> {
  const views = (await ipxeViews(dataDir)).filter((one) => one.name === name)
  answer(context, views[0], () => showList(context, views))
}

function showList({ output }: Context, views: readonly IpxeView[]): void {
  if (views.length === 0) {
    output.line("there is no iPXE: take Debian's with pawl ipxe fetch, or your own with pawl ipxe add FILE")
    return
  }
  output.table(
    [
      { title: 'NAME' },
      { title: 'PLATFORM', min: 11 },
      { title: 'VERSION', drop: 2 },
      { title: 'SIZE', align: 'right', drop: 1 },
      { title: 'FEATURES', drop: 3 },
      { title: 'TRUSTS' },
      { title: 'BOOTS FROM HERE' },
    ],
    views.map((view): Piece[] => [
      view.name,
      `${view.platform} ${view.arch}`,
      view.version ?? '-',
      formatSize(view.size),
      view.features?.join(' ') ?? '?',
      trustWords(view),
      toned(view.boots === 'no' ? 'bad' : 'plain', bootsWords(view)),
    ]),
  )
}
