import type { Command } from 'commander'
import { PawlError } from '../../errors.ts'
import type { ImageView, SignedImage } from '../answers.ts'
import { pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import type { SigningFlags } from '../signing-key.ts'
import { argument } from '../values.ts'

interface SignFlags extends SigningFlags {
  readonly digest?: string
  readonly kernel?: string
  readonly initramfs?: string
  readonly filesystem?: string
}

/** The flags of commands that sign. */
export function withSigningFlags(command: Command): Command {
  return command
    .option('--sign-key <FILE>', "the key to sign with; else $PAWL_SIGN_KEY, else the data folder's own")
    .option('--sign-cert <FILE>', 'its certificates; else $PAWL_SIGN_CERT')
}

/** Adds `pawl image sign`. */
export function addSignCommand(image: Command, context: Context): void {
  const command = image
    .command('sign')
    .description(
      'Sign an image that is published: its manifest, and each artifact by its digest there. Nothing is downloaded: what the server says the image is can be held against the digest that publish printed, or against files.',
    )
    .argument('<name@version>', 'the image')
    .option('--digest <SHA256>', 'the digest of the manifest, as publish printed it')
    .option('--kernel <F>', 'the kernel that it must have')
    .option('--initramfs <F>', 'the initramfs that it must have')
    .option('--filesystem <F>', 'the filesystem that it must have')
    .action((text: string, flags: SignFlags) =>
      withApi(context, async (api) => {
        const { parseImageRef, parseManifest } = await import('../../domain/image.ts')
        const { findSigner, refuseOtherManifest } = await import('../signing-key.ts')
        const { checkGiven } = await import('../verify-image.ts')
        const { name, version } = argument(text, parseImageRef)
        const signer = await findSigner(context, api, flags)
        if (signer === undefined) {
          throw new PawlError('usage', 'there is no key to sign with', {
            hint: 'give --sign-key and --sign-cert; pawl publisher create makes them',
          })
        }
        const { manifest: shown, digest } = await api.get<ImageView>(`/images${pathOf(name, version)}`)
        const manifest = parseManifest(shown)
        refuseOtherManifest(manifest, `${name}@${version}`, flags.digest ?? digest)
        const { kernel, initramfs, filesystem } = flags
        await checkGiven(manifest, { kernel, initramfs, filesystem })
        const path = `/images${pathOf(name, version)}/signatures`
        const signed = await api.create<SignedImage>(path, signer.sign(manifest))
        answer(context, signed, () =>
          context.output.line(
            signed.added
              ? `${signed.ref} is signed by publisher "${signed.publisher}"`
              : `publisher "${signed.publisher}" had signed ${signed.ref} before`,
          ),
        )
      }),
    )
  withSigningFlags(command)
  withExamples(command, [
    'pawl image sign worker@2 --sign-key ci.key --sign-cert ci.crt',
    'pawl image sign worker@2 --kernel vmlinuz --initramfs initrd',
  ])
}
