import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { PawlError } from '../../errors.ts'
import type { ImageTestView } from '../answers.ts'
import { type Api, openApi, pathOf } from '../api.ts'
import { findConnection } from '../connection.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import type { TestBootResult } from '../image-test/boot.ts'
import { toned } from '../text.ts'
import { parseDuration } from '../values.ts'

interface Flags {
  readonly as?: 'stage2' | 'stage3'
  readonly with?: string
  readonly args?: string
  readonly memory?: number
  readonly timeout: number
  readonly ipxe?: string
}

/** Adds `pawl image test`. */
export function addImageTestCommand(image: Command, context: Context): void {
  const command = image
    .command('test')
    .description(
      'Boot an image version in an emulated machine, through the whole chain of a Pawl of its own, and write down on the server how it went. A channel can want a passed test.',
    )
    .argument('<name@version>', 'the image')
    .addOption(
      new Option('--as <STAGE>', 'as which image; else as profiles use it').choices(['stage2', 'stage3']),
    )
    .option('--with <IMAGE>', 'name@version or name/channel of the other image; else as profiles have it')
    .option('--args <STRING>', 'more kernel arguments')
    .option('--memory <MiB>', "the machine's memory; else what the images say they need", parseMebibytes)
    .option('--timeout <TIME>', 'not ready by then is failed', parseDuration, 600)
    .option('--ipxe <FILE>', "the iPXE to boot with, an .efi file; else Debian's, fetched once")
    .action((text: string, flags: Flags) =>
      withApi(context, async (api) => {
        const recorded = await run(context, api, text, flags)
        answer(context, recorded, () => show(context, text, recorded))
        if (!recorded.passed) throw failed(text, recorded)
      }),
    )
  withExamples(command, [
    'pawl image test worker@2026.12',
    'pawl image test worker@2026.12 --as stage3 --with small/stable',
  ])
}

/** Emulators and schemas take time to load: only who needs them waits. */
async function run(context: Context, api: Api, text: string, flags: Flags): Promise<ImageTestView> {
  const { checkEmulator, findIpxe } = await import('../image-test/needs.ts')
  const { architectureOfPair, candidateOf, findPair, imagesOf } = await import('../image-test/pair.ts')
  const { copyImage } = await import('../image-test/copy.ts')
  const { testBoot } = await import('../image-test/boot.ts')
  const { formatImageRef } = await import('../../domain/image.ts')
  const { io, local, output } = context
  const candidate = candidateOf(text)
  const pair = await findPair(api, candidate, flags)
  const architecture = await architectureOfPair(api, pair)
  await checkEmulator(architecture)
  const ipxe = await findIpxe(io, architecture, flags.ipxe, local.recipesFolder)
  const scratch = await local.scratch()
  let result: TestBootResult
  try {
    const own = openApi(await findConnection({}, scratch.dataDir))
    try {
      const manifests = []
      for (const ref of imagesOf(pair)) manifests.push(await copyImage(api, own, io, ref))
      output.note(`booting ${formatImageRef(pair.stage2)}, then ${formatImageRef(pair.stage3)}`)
      result = await testBoot(own, {
        ...pair,
        manifests,
        architecture,
        ipxe,
        ca: await readFile(join(scratch.dataDir, 'ca.crt'), 'utf8'),
        kernelArguments: flags.args ?? '',
        memoryMiB: flags.memory,
        timeoutSeconds: flags.timeout,
        onLine: (line) => output.note(line),
      })
    } finally {
      own.close()
    }
  } finally {
    await scratch.close()
  }
  const { passed, ...detail } = result
  const other = pair.tried === 'stage2' ? pair.stage3 : pair.stage2
  return api.create<ImageTestView>(`/images${pathOf(candidate.name, candidate.version)}/tests`, {
    passed,
    detail: { ...detail, as: pair.tried, with: formatImageRef(other) },
  })
}

function show({ output }: Context, text: string, { passed, detail }: ImageTestView): void {
  const { seconds, stages } = detail as unknown as TestBootResult
  const times = stages.map((one) => `${one.stage} ${one.seconds.toFixed(1)} s`).join(', ')
  output.line(
    text,
    ' ',
    toned(passed ? 'good' : 'bad', passed ? 'passed' : 'failed'),
    `: ${seconds} s (${times})`,
  )
}

function failed(text: string, { detail }: ImageTestView): PawlError {
  const { failure, console } = detail as unknown as TestBootResult
  return new PawlError('conflict', `${text} failed its test: ${failure}`, {
    hint: `the console ended with: ${console.at(-1) ?? 'nothing'}`,
  })
}

function parseMebibytes(text: string): number {
  if (/^[1-9]\d{2,5}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number of MiB, at least 100.')
}
