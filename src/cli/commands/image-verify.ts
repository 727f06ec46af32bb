import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { ArtifactRole, ImageRef } from '../../domain/image.ts'
import { PawlError } from '../../errors.ts'
import type { ImageEvidence, ImageView, RereadImage } from '../answers.ts'
import { type Api, pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatSize } from '../format.ts'
import { toned } from '../text.ts'
import { argument, collect } from '../values.ts'
import type { Checked } from '../verify-image.ts'

interface VerifyFlags {
  readonly manifest?: string
  readonly signature?: string
  readonly kernel?: string
  readonly initramfs?: string
  readonly filesystem?: string
  readonly trust?: readonly string[]
}

/** Adds `pawl image verify` and `pawl image export`. */
export function addVerifyCommands(image: Command, context: Context): void {
  addVerify(image, context)
  addExport(image, context)
}

function addVerify(image: Command, context: Context): void {
  const command = image
    .command('verify')
    .description(
      'Check an image: its manifest, its signatures and every byte. The server reads the bytes back, or they are read here from files; with --manifest and --signature no server is asked at all.',
    )
    .argument('<name@version>', 'the image')
    .option('--manifest <F>', 'the manifest, as pawl image export writes it')
    .option('--signature <F>', 'a signature of it, likewise')
    .option('--kernel <F>', 'the kernel')
    .option('--initramfs <F>', 'the initramfs')
    .option('--filesystem <F>', 'the filesystem')
    .option(
      '--trust <CERT>',
      "a publisher's certificate (PEM): only its signature counts; repeat it for several",
      collect,
    )
    .action(async (text: string, flags: VerifyFlags) => {
      const { parseImageRef } = await import('../../domain/image.ts')
      const ref = argument(text, parseImageRef)
      const checked =
        flags.manifest === undefined && flags.signature === undefined
          ? await withApi(context, (api) => verifyHeld(api, ref, flags))
          : await verifyOffline(context, ref, flags)
      answer(context, { ref: text, checked }, () => {
        for (const { what, found } of checked)
          context.output.line(toned('good', 'ok'), ` ${what.padEnd(10)} ${found}`)
      })
    })
  withExamples(command, [
    'pawl image verify worker@2',
    'pawl image verify worker@2 --manifest manifest.json --signature ci.json \\\n      --kernel vmlinuz --initramfs initrd --trust ci.crt',
  ])
}

function addExport(image: Command, context: Context): void {
  const command = image
    .command('export')
    .description(
      'Write what proves an image, for those who check it without a server: its manifest, and of each publisher the signature whole (JSON) and one detached CMS (DER) for each part.',
    )
    .argument('<name@version>', 'the image')
    .requiredOption('--out <DIR>', 'a folder for it; what is there is not overwritten')
    .action((text: string, { out }: { out: string }) =>
      withApi(context, async (api) => {
        const { parseImageRef } = await import('../../domain/image.ts')
        const files = await filesOf(await evidenceOf(api, argument(text, parseImageRef)))
        await write(out, files)
        answer(context, { ref: text, files: files.map(({ name }) => name) }, () => {
          for (const { name } of files) context.output.line(join(out, name))
        })
      }),
    )
  withExamples(command, ['pawl image export worker@2 --out worker-2'])
}

/** What the server holds, checked here; the bytes by the server, unless they are here. */
async function verifyHeld(api: Api, ref: ImageRef, flags: VerifyFlags): Promise<Checked[]> {
  const { checkedManifest, checkFiles, checkHeld, readManifestText, readTrusted } = await import(
    '../verify-image.ts'
  )
  const path = `/images${pathOf(ref.name, ref.version)}`
  const trusted = flags.trust === undefined ? undefined : readTrusted(flags.trust)
  const { digest } = await api.get<ImageView>(path)
  const evidence = await evidenceOf(api, ref)
  const manifest = readManifestText(evidence.manifest, evidence.ref)
  const said = checkedManifest(manifest)
  if (said.found !== digest) {
    throw new PawlError('digest-mismatch', `the manifest has SHA-256 ${said.found}, not ${digest}`, {
      hint: 'someone changed the database of the server',
    })
  }
  const signatures = checkHeld(evidence.signatures, manifest, trusted)
  const paths = pathsOf(flags)
  if (Object.keys(paths).length > 0) return [said, ...signatures, ...(await checkFiles(manifest, paths))]
  const { bytes } = await api.post<RereadImage>(`${path}/reread`)
  return [said, ...signatures, { what: 'bytes', found: `the server read all ${formatSize(bytes)} back` }]
}

async function verifyOffline(context: Context, ref: ImageRef, flags: VerifyFlags): Promise<Checked[]> {
  const { checkedManifest, checkFiles, checkOffline, readManifestFile, readSignatureFile, readTrusted } =
    await import('../verify-image.ts')
  const { manifest: manifestFile, signature: signatureFile, trust } = flags
  if (manifestFile === undefined || signatureFile === undefined || trust === undefined) {
    throw new PawlError('usage', 'without a server, --manifest, --signature and --trust are all needed', {
      hint: 'pawl image export writes the first two; the third is a certificate that you know to be right',
    })
  }
  const manifest = await readManifestFile(manifestFile, `${ref.name}@${ref.version}`)
  const signature = await readSignatureFile(signatureFile)
  return [
    checkedManifest(manifest),
    checkOffline(signature, manifest, readTrusted(trust), context.io.now()),
    ...(await checkFiles(manifest, pathsOf(flags))),
  ]
}

function pathsOf({ kernel, initramfs, filesystem }: VerifyFlags): Partial<Record<ArtifactRole, string>> {
  return Object.fromEntries(
    Object.entries({ kernel, initramfs, filesystem }).filter(([, path]) => path !== undefined),
  )
}

function evidenceOf(api: Api, { name, version }: ImageRef): Promise<ImageEvidence> {
  return api.get<ImageEvidence>(`/images${pathOf(name, version)}/signatures`)
}

interface NewFile {
  readonly name: string
  readonly content: string | Uint8Array
}

async function filesOf({ ref, manifest, signatures }: ImageEvidence): Promise<NewFile[]> {
  const { cmsOf, parseSignature, signedParts } = await import('../../domain/signature.ts')
  const { parsePublisherName } = await import('../../domain/publisher.ts')
  const { readManifestText } = await import('../verify-image.ts')
  const parts = signedParts(readManifestText(manifest, ref))
  return [
    { name: 'manifest.json', content: manifest },
    ...signatures.flatMap(({ publisher, signature }) => {
      const name = parsePublisherName(publisher) // it becomes a file's name
      const whole = parseSignature(signature)
      return [
        { name: `${name}.json`, content: `${JSON.stringify(whole)}\n` },
        ...parts.flatMap(({ part }) => {
          const content = cmsOf(whole, part)
          return content === undefined ? [] : [{ name: `${name}.${part}.sig`, content }]
        }),
      ]
    }),
  ]
}

async function write(folder: string, files: readonly NewFile[]): Promise<void> {
  let at = folder
  try {
    await mkdir(folder, { recursive: true })
    for (const { name, content } of files) {
      at = join(folder, name)
      await writeFile(at, content, { flag: 'wx' })
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    if (code === 'EEXIST')
      throw new PawlError('exists', `${at} exists already`, { hint: 'name a new folder' })
    throw new PawlError(code === 'ENOSPC' ? 'disk-full' : 'invalid', `${at} cannot be written (${code})`)
  }
}
