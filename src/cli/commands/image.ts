import { type Command, InvalidArgumentError, Option } from 'commander'
import { architectures } from '../../domain/architecture-name.ts'
import type { ImageView, SignerView } from '../answers.ts'
import { pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge, formatSize, formatTime } from '../format.ts'
import type { AboutFlags } from '../image-about.ts'
import { wholeList } from '../pages.ts'
import { showProposed } from '../proposed.ts'
import type { SigningFlags } from '../signing-key.ts'
import { operatorName, type Piece, toned } from '../text.ts'
import { argument, collect } from '../values.ts'
import { addPruneCommand } from './image-prune.ts'
import { addSignCommand, withSigningFlags } from './image-sign.ts'
import { addImageTestCommand } from './image-test.ts'
import { addVerifyCommands } from './image-verify.ts'

interface PublishFlags extends AboutFlags, SigningFlags {
  readonly kernel: string
  readonly initramfs: string
  readonly filesystem?: string
  readonly args?: string
  readonly arch: string
  readonly minMemory?: number
}

/** Adds `pawl image …`. */
export function addImageCommands(program: Command, context: Context): void {
  const image = program.command('image').description('What machines boot: publish, sign and look.')
  addPublish(image, context)
  addSignCommand(image, context)
  addVerifyCommands(image, context)
  addList(image, context)
  addShow(image, context)
  addImageTestCommand(image, context)
  addPruneCommand(image, context)
}

function addPublish(image: Command, context: Context): void {
  const command = image
    .command('publish')
    .description(
      'Publish one version of an image; it never changes afterwards. Sends only what the server does not have, and prints the digest of the manifest.',
    )
    .argument('<name@version>', 'the image')
    .requiredOption('--kernel <F>', 'the kernel: a bzImage, or an Image for arm64')
    .requiredOption('--initramfs <F>', 'the initramfs')
    .option('--filesystem <F>', 'the root filesystem that a stage-3 initramfs fetches')
    .option('--args <STRING>', 'kernel arguments')
    .addOption(new Option('--arch <ARCH>', 'the architecture').choices(architectures).default('x86_64'))
    .option('--min-memory <MiB>', 'the memory a machine must have', parseMebibytes)
    .option('--creator <TEXT>', 'who built it; else what CI says, else $USER')
    .option('--created <TIME>', 'when it was built, YYYY-MM-DDTHH:MM:SSZ; else SOURCE_DATE_EPOCH, else now')
    .option('--source-revision <TEXT>', 'what it was built from; else what CI says')
    .option('--annotation <K=V>', 'anything else to say of it; repeat it for several', collect)
    .option('--annotations <FILE>', 'a JSON object of annotations, as the recipes in images/ write it')
    .action((ref: string, flags: PublishFlags) =>
      withApi(context, async (api) => {
        const { findSigner } = await import('../signing-key.ts')
        const signer = await findSigner(context, api, flags)
        const { publishImage } = await import('../publish-image.ts') // schemas take time to load: only who needs them waits
        const { kernel, initramfs, filesystem } = flags
        const published = await publishImage(api, context.io, {
          ref,
          files: { kernel, initramfs, ...(filesystem === undefined ? {} : { filesystem }) },
          kernelArguments: flags.args ?? '',
          arch: flags.arch,
          minMemoryMiB: flags.minMemory,
          about: flags,
          sign: signer?.sign,
        })
        answer(context, published, () => context.output.line(published.digest))
        if (published.proposal !== null) showProposed(context.output, published.proposal)
        else if (published.created === false)
          context.output.note(`${published.ref} was published already, the same`)
        if (signer === undefined)
          context.output.note(
            'without a signature: sign it with pawl image sign, or only profiles that accept it will boot it',
          )
        for (const warning of published.warnings) context.output.warning(warning)
      }),
    )
  withSigningFlags(command)
  withExamples(command, [
    'pawl image publish minimal@1 --kernel vmlinuz --initramfs initrd',
    'pawl image publish worker@2 --kernel vmlinuz --initramfs initrd \\\n      --filesystem root.squashfs --args console=ttyS0 --min-memory 2048',
  ])
}

function addList(image: Command, context: Context): void {
  const command = image
    .command('list')
    .description('Images by name, the newest version of each first.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<ImageView>(api, '/images')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl image list'])
}

function addShow(image: Command, context: Context): void {
  const command = image
    .command('show')
    .description('All about one version of an image.')
    .argument('<name@version>', 'the image')
    .action((text: string) =>
      withApi(context, async (api) => {
        const { parseImageRef } = await import('../../domain/image.ts')
        const { name, version } = argument(text, parseImageRef)
        const found = await api.get<ImageView>(`/images${pathOf(name, version)}`)
        answer(context, found, () => show(context, found))
      }),
    )
  withExamples(command, ['pawl image show worker@2026.11'])
}

function showList({ output, io }: Context, images: readonly ImageView[]): void {
  if (images.length === 0) {
    output.note('no images')
    return
  }
  output.table(
    [
      { title: 'IMAGE', min: 16 },
      { title: 'DIGEST', min: 12, drop: 3 },
      { title: 'SIZE', align: 'right', min: 8, drop: 4 },
      { title: 'SIGNED', min: 6, drop: 6 },
      { title: 'TEST', min: 6, drop: 5 },
      { title: 'BY', min: 8, drop: 1 },
      { title: 'AGO', align: 'right', min: 6, drop: 2 },
    ],
    images.map(({ ref, digest, manifest, createdAt, createdBy, signatures, test }) => [
      ref,
      digest.slice(0, 12),
      formatSize(manifest.artifacts.reduce((total, { size }) => total + size, 0)),
      signersOf(signatures),
      testOf(test),
      createdBy.replace(/^operator:/, ''),
      formatAge(createdAt, io.now()),
    ]),
  )
}

function show(
  { output }: Context,
  { ref, digest, manifest, createdAt, createdBy, signatures, test }: ImageView,
): void {
  output.fields([
    { name: 'image', value: toned('strong', ref) },
    { name: 'digest', value: digest },
    { name: 'arch', value: manifest.arch },
    { name: 'arguments', value: manifest.kernelArguments === '' ? 'none' : manifest.kernelArguments },
    {
      name: 'memory',
      value: manifest.minMemoryMiB === undefined ? 'any' : `at least ${manifest.minMemoryMiB} MiB`,
    },
    ...manifest.artifacts.map(({ role, digest: of, size }) => ({
      name: role,
      value: [of, formatSize(size)],
    })),
    ...(['creator', 'createdAt', 'sourceRevision'] as const).flatMap((name) => {
      const value = manifest[name]
      return value === undefined ? [] : [{ name: aboutWords[name], value }]
    }),
    ...Object.entries(manifest.annotations ?? {}).map(([name, value]) => ({
      name,
      value:
        value.length > 120
          ? `${value.slice(0, 120).replace(/\s+/g, ' ')}… (${formatSize(value.length)})`
          : value,
    })),
    ...signatures.map(signedBy),
    ...(test === null
      ? []
      : [{ name: 'test', value: [testOf(test), `${formatTime(test.at)} by ${operatorName(test.by)}`] }]),
    { name: 'published', value: `${formatTime(createdAt)} by ${createdBy.replace(/^operator:/, '')}` },
  ])
}

/** Who signed and is trusted still. */
function signersOf(signatures: readonly SignerView[]): Piece {
  const good = signatures.filter(({ revokedAt }) => revokedAt === null).map(({ publisher }) => publisher)
  return good.length === 0 ? toned('warn', 'no') : good.join(', ')
}

function testOf(test: ImageView['test']): Piece {
  if (test === null) return 'none'
  return test.passed ? toned('good', 'passed') : toned('bad', 'failed')
}

function signedBy({ publisher, signedAt, revokedAt }: SignerView) {
  const value = `by ${publisher}, ${formatTime(signedAt)}`
  return {
    name: 'signed',
    value: revokedAt === null ? value : [value, toned('bad', `revoked ${formatTime(revokedAt)}`)],
  }
}

const aboutWords = { creator: 'creator', createdAt: 'built', sourceRevision: 'source' } as const

function parseMebibytes(text: string): number {
  if (/^[1-9]\d{0,7}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number of MiB, at least 1.')
}
