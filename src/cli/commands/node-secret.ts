import { type FileHandle, open, rm } from 'node:fs/promises'
import type { Command } from 'commander'
import { PawlError } from '../../errors.ts'
import type { IssuedSecret } from '../answers.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatTime } from '../format.ts'
import { argument, nodePath, parseDuration } from '../values.ts'

interface Flags {
  readonly revoke?: true
  readonly autoexec?: string
  readonly expires?: number
  readonly rotating?: true
}

/** Adds `pawl node secret`. */
export function addSecretCommand(node: Command, context: Context): void {
  const command = node
    .command('secret')
    .description(
      'Issue the enrolment secret that a node carries on its boot media. It is shown this once, and replaces the one before.',
    )
    .argument('<name>', 'the node')
    .option('--revoke', 'take the secret back instead: media that carries it is refused')
    .option(
      '--autoexec <FILE>',
      "also write the node's autoexec.ipxe, with the secret in it, to a new file (0600)",
    )
    .option(
      '--expires <TIME>',
      'how long it is good for, like 90d, and each that takes its place by rotation. Longer than the machine runs without a boot',
      (text: string) => argument(text, parseDuration),
    )
    .option(
      '--rotating',
      'each boot replaces it on the boot medium, which must be one that can be written to (media with pawl/secret.ipxe)',
    )
    .action((name: string, flags: Flags) =>
      flags.revoke ? revoke(context, name, flags) : issue(context, name, flags),
    )
  withExamples(command, [
    'pawl node secret mlab1',
    'pawl node secret mlab1 --autoexec ./autoexec.ipxe',
    'pawl node secret mlab1 --rotating --expires 365d',
    'pawl node secret mlab1 --revoke',
  ])
}

function issue(context: Context, name: string, { autoexec, expires, rotating }: Flags): Promise<void> {
  const wish =
    expires === undefined && rotating === undefined
      ? undefined
      : { lifetimeSeconds: expires, kind: rotating === true ? 'rotating' : undefined }
  return withApi(context, async (api) => {
    const path = `${nodePath(name)}/secret`
    // The file first: a secret that was issued and could not be written down has replaced the old one for nothing.
    const file = autoexec === undefined ? undefined : await createScript(autoexec)
    let issued: IssuedSecret
    try {
      issued = await api.create<IssuedSecret>(path, wish)
    } catch (error) {
      await file?.abandon()
      throw error
    }
    answer(context, issued, () => context.output.line(issued.secret))
    await file?.finish(issued.siteScript)
    for (const warning of issued.warnings) context.output.note(`warning: ${warning}`)
    if (issued.expiresAt !== null) context.output.note(`good until ${formatTime(issued.expiresAt)}`)
    context.output.note('shown this once; any secret issued before opens nothing from now on')
  })
}

function revoke(context: Context, name: string, { autoexec, expires, rotating }: Flags): Promise<void> {
  if (autoexec !== undefined) throw new PawlError('usage', '--revoke issues no secret to write to --autoexec')
  if (expires !== undefined || rotating !== undefined)
    throw new PawlError('usage', '--revoke issues no secret that could expire or rotate')
  return withApi(context, async (api) => {
    await api.delete(`${nodePath(name)}/secret`)
    answer(context, { name, revoked: true }, () =>
      context.output.line(`the enrolment secret of node "${name}" is revoked`),
    )
  })
}

interface NewScript {
  finish(text: string): Promise<void>
  abandon(): Promise<void>
}

/** A new file that only its owner can read. `wx` follows no symlink and overwrites nothing. */
async function createScript(path: string): Promise<NewScript> {
  let handle: FileHandle
  try {
    handle = await open(path, 'wx', 0o600)
  } catch (error) {
    throw notWritten(path, error)
  }
  return {
    async finish(text) {
      try {
        await handle.writeFile(text)
        await handle.sync()
      } catch (error) {
        throw notWritten(path, error)
      } finally {
        await handle.close()
      }
    },
    async abandon() {
      await handle.close()
      await rm(path)
    },
  }
}

function notWritten(path: string, error: unknown): PawlError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
  if (code === 'EEXIST') {
    return new PawlError('exists', `${path} exists already`, {
      hint: 'name a new file, or remove this one first',
    })
  }
  return new PawlError(code === 'ENOSPC' ? 'disk-full' : 'invalid', `${path} cannot be written (${code})`)
}
