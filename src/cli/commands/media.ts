import { type Command, Option } from 'commander'
import { parseToken, textLength } from '../../domain/token.ts'
import { PawlError } from '../../errors.ts'
import type { MediaFormat } from '../../media/build.ts'
import type { IssuedSecret, MediaParts } from '../answers.ts'
import type { Api } from '../api.ts'
import { dataFolderOf } from '../connection.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatSize, formatTime } from '../format.ts'
import { certificateFor } from '../media-certificate.ts'
import { biosForMedia, findMediaIpxe, ipxeForMedia } from '../media-ipxe.ts'
import { readLine } from '../stdin.ts'
import { argument, nodePath, parseDuration } from '../values.ts'

interface Flags {
  readonly out: string
  readonly format: MediaFormat
  readonly ipxe: string
  readonly bios?: string
  readonly mac?: string
  readonly vlan?: string
  readonly address?: string
  readonly gateway?: string
  readonly dns?: string
  readonly rotating?: true
  readonly expires?: number
  readonly secret?: string | false
  readonly certificate?: string
  readonly breakSignature?: true
  readonly force?: true
  readonly yes?: true
}

/** What was built, or would be. */
interface BuiltMedium {
  readonly node: string
  readonly applied: boolean
  readonly format: MediaFormat
  readonly path: string
  readonly bytes?: number
  readonly ipxe: { readonly name: string; readonly version: string | null; readonly arch: string }
  readonly root: string
  readonly secret: 'new' | 'given' | 'none'
  readonly expiresAt?: string | null
}

/** Adds `pawl media build`. */
export function addMediaCommands(program: Command, context: Context): void {
  const media = program
    .command('media')
    .description('Boot media of nodes: for machines that no network boots.')
  const command = media
    .command('build')
    .description(
      'Build boot media for one node, with its enrolment secret in it: whoever has it boots as the node. UEFI firmware boots it; a BIOS an ISO with --bios.',
    )
    .argument('<name>', 'the node')
    .requiredOption(
      '--out <PATH>',
      'the file to write, or the folder with --format efi; its owner alone can read it',
    )
    .addOption(
      new Option(
        '--format <FORMAT>',
        'a raw disk, a CD that is a disk too, or files for an EFI system partition',
      )
        .choices(['iso', 'usb', 'efi'])
        .makeOptionMandatory(),
    )
    .option(
      '--ipxe <NAME|FILE>',
      'the iPXE of pawl ipxe list, or a file; the copy on the medium trusts the server',
      'ipxe-x86_64.efi',
    )
    .option('--bios <NAME|FILE>', 'an ipxe.lkrn built to trust the server: the ISO boots on a BIOS too')
    .option('--mac <MAC>', 'the NIC to boot from; else the first with a link')
    .option('--vlan <ID>', 'the VLAN that its frames are tagged with')
    .option(
      '--address <CIDR>',
      'its address, like 192.0.2.10/24 or 2001:db8::10/64; else DHCP or a router gives one',
    )
    .option('--gateway <IP>', 'the way out')
    .option('--dns <IP>', 'the name server')
    .option(
      '--rotating',
      'each boot replaces the secret on the medium (usb and efi, which can be written to)',
    )
    .option('--expires <TIME>', 'how long the secret is good for, like 365d', (text: string) =>
      argument(text, parseDuration),
    )
    .option('--secret <FILE>', 'carry this secret instead of a new one; "-" is stdin')
    .option('--no-secret', 'carry none: other evidence proves the node')
    .option(
      '--certificate <FILE>',
      'carry key and certificate too, as node certificate issue --out FILE wrote them',
    )
    .option('--break-signature', 'use an iPXE although the change breaks its Secure Boot signature')
    .option('--force', 'replace what is at --out')
    .option('--yes', 'issue a new secret although media with the old one stop booting')
    .action((name: string, flags: Flags) => withApi(context, (api) => build(context, api, name, flags)))
  withExamples(command, [
    'pawl media build mlab1 --format usb --out mlab1.img',
    'pawl media build mlab1 --format iso --out mlab1.iso --yes \\\n    --address 192.0.2.10/24 --gateway 192.0.2.1 --dns 192.0.2.2',
    'pawl media build mlab1 --format efi --out ./mlab1-esp --vlan 42 --rotating',
  ])
}

async function build(context: Context, api: Api, name: string, flags: Flags): Promise<void> {
  checkFlags(flags)
  const certificate = await certificateFor(context, api, name, flags.certificate)
  const given = typeof flags.secret === 'string' ? await readSecret(context, flags.secret) : undefined
  const parts = await api.get<MediaParts>(`${nodePath(name)}/media`, networkOf(flags))
  const dataDir = dataFolderOf(context.io.env, context.flags().data)
  const wants = { vlan: flags.vlan !== undefined, breakSignature: flags.breakSignature === true }
  const ipxe = await ipxeForMedia(await findMediaIpxe(flags.ipxe, dataDir, parts), parts.ca, wants)
  const bios =
    flags.bios === undefined ? undefined : await biosForMedia(await findMediaIpxe(flags.bios, dataDir, parts))
  const secret = given !== undefined ? 'given' : flags.secret === false ? 'none' : 'new'
  const about = {
    node: name,
    format: flags.format,
    path: flags.out,
    ipxe: { name: flags.ipxe, version: ipxe.version, arch: ipxe.arch },
    root: ipxe.root,
    secret,
  } as const
  if (secret === 'new' && parts.secretIssued && flags.yes !== true) {
    const plan: BuiltMedium = { ...about, applied: false }
    answer(context, plan, () =>
      context.output.line(
        `node "${name}" has a secret: a new one takes its place, and media with it boot no more`,
      ),
    )
    context.output.note('nothing was done; --yes does it, --secret FILE carries the secret it has')
    return
  }
  const { mediaFiles, mediaImage } = await import('../../media/build.ts')
  const { openTarget } = await import('../../media/write.ts')
  const { siteScript, publicUrl } = parts
  const make = (text: string | undefined) => {
    const content = { node: name, publicUrl, siteScript, secret: text, certificate, ipxe }
    return flags.format === 'efi' ? mediaFiles(content) : mediaImage(flags.format, content, bios)
  }
  // What cannot be built or written is found before a new secret stops the media that there are.
  const draft = make(secret === 'none' ? undefined : (given ?? '-'.repeat(textLength)))
  const target = await openTarget(flags.out, {
    asFolder: flags.format === 'efi',
    force: flags.force === true,
  })
  let issued: IssuedSecret | undefined
  try {
    await target.reserve(draft)
    if (secret === 'new') issued = await api.create<IssuedSecret>(`${nodePath(name)}/secret`, wishOf(flags))
  } catch (error) {
    await target.abandon()
    throw error
  }
  const medium = make(issued?.secret ?? given)
  await target.finish(medium).catch((error: unknown) => {
    throw issued === undefined ? error : notWritten(error, name)
  })
  const bytes = Buffer.isBuffer(medium)
    ? medium.length
    : medium.reduce((sum, file) => sum + file.bytes.length, 0)
  const built: BuiltMedium = {
    ...about,
    applied: true,
    bytes,
    ...(issued === undefined ? {} : { expiresAt: issued.expiresAt }),
  }
  answer(context, built, () => show(context, built))
  tell(context, flags, parts, issued)
}

function checkFlags({ format, bios, rotating, expires, secret }: Flags): void {
  const fault =
    bios !== undefined && format !== 'iso'
      ? '--bios goes with --format iso, which boots from a stick too'
      : rotating === true && format === 'iso'
        ? '--rotating needs a medium that can be written to: --format usb or efi'
        : secret !== undefined && (rotating === true || expires !== undefined)
          ? '--rotating and --expires are of a new secret'
          : undefined
  if (fault !== undefined) throw new PawlError('usage', fault)
}

function networkOf({ mac, vlan, address, gateway, dns }: Flags): Record<string, string | number> {
  const tag = vlan === undefined ? undefined : Number(vlan)
  if (tag !== undefined && !(Number.isInteger(tag) && tag >= 1 && tag <= 4094))
    throw new PawlError('usage', `--vlan "${vlan}" is not a number from 1 to 4094 (IEEE 802.1Q)`)
  const given = { mac, vlan: tag, address, gateway, dns }
  return Object.fromEntries(
    Object.entries(given).filter((pair): pair is [string, string | number] => pair[1] !== undefined),
  )
}

/** A secret that was issued before. Only its form is known here; the server judges it at the next boot. */
async function readSecret({ io }: Context, file: string): Promise<string> {
  const { readSecretFile } = await import('../../pki/key-file.ts')
  const text =
    file === '-'
      ? await readLine(io.stdin, 'secret')
      : readSecretFile(file, 'write the secret into a file of mode 0600')
  if (parseToken(text.trim()) !== undefined) return text.trim()
  throw new PawlError('invalid', `${file === '-' ? 'stdin' : file} does not hold an enrolment secret`, {
    hint: 'pawl node secret shows one when it is issued',
  })
}

function wishOf({ rotating, expires }: Flags): unknown {
  if (rotating === undefined && expires === undefined) return undefined
  return { kind: rotating === true ? 'rotating' : undefined, lifetimeSeconds: expires }
}

function notWritten(error: unknown, name: string): unknown {
  if (!(error instanceof PawlError)) return error
  return new PawlError(error.code, error.message, {
    hint: `the new secret of node "${name}" was issued and is lost: run this again with --yes when there is room`,
    cause: error,
  })
}

function show({ output }: Context, { path, format, bytes = 0, ipxe, root }: BuiltMedium): void {
  output.line(`${path}: ${format}, ${formatSize(bytes)}`)
  output.line(
    `iPXE ${ipxe.version ?? 'of unknown version'} for ${ipxe.arch}, trusting root ${root} and no other`,
  )
}

function tell({ output }: Context, flags: Flags, parts: MediaParts, issued: IssuedSecret | undefined): void {
  for (const warning of issued?.warnings ?? []) output.warning(warning)
  if (flags.secret === false && parts.secretWanted)
    output.warning(
      `the profile of node "${parts.node}" asks for a secret, which this medium does not carry: it will be refused`,
    )
  if (flags.certificate === undefined && parts.certificateWanted)
    output.warning(
      `the profile of node "${parts.node}" asks for a client certificate, which this medium does not carry: stage 2 will be refused`,
    )
  if (flags.bios !== undefined) {
    output.warning(
      `whom ${flags.bios} trusts cannot be told or changed, since BIOS binaries are packed: unless it was built with TRUST=ca.crt of this server, a BIOS says NOT TRUSTED`,
    )
  }
  if (flags.secret !== false)
    output.note(`whoever has it boots as this node; to stop it: pawl node secret ${parts.node} --revoke`)
  if (issued !== undefined && issued.expiresAt !== null)
    output.note(`its secret is good until ${formatTime(issued.expiresAt)}`)
  if (flags.bios === undefined) output.note('it boots UEFI machines only')
}
