import type { Command, CommanderError } from 'commander'
import manifest from '../../package.json' with { type: 'json' }
import { isPawlError, PawlError } from '../errors.ts'
import type { Context, GlobalFlags } from './context.ts'
import type { Io, LocalCommands } from './io.ts'
import { openOutput } from './output.ts'
import { buildProgram, usageFault } from './program.ts'

export type { InitResult, Io, LocalCommands, SettingFlags } from './io.ts'

/** Exit codes (CONTRACT): done, refused or failed, wrong usage. */
export const exitCodes = { done: 0, failed: 1, usage: 2 } as const

/** Runs one command line. Never throws: what goes wrong is told on stderr, and is in the exit code. */
export async function runCli(io: Io, local: LocalCommands): Promise<number> {
  const output = openOutput(io)
  const contextOf = (program: Command): Context => ({
    io,
    output,
    local,
    flags: () => program.opts<GlobalFlags>(),
  })
  const program = await buildProgram(io, contextOf, manifest.version)
  tellWhichCommand(program)
  try {
    await program.parseAsync(io.argv, { from: 'user' })
    return exitCodes.done
  } catch (error) {
    if (error instanceof WrongUsage) {
      if (error.fault !== undefined) output.failure(error.fault)
      return error.exitCode
    }
    output.failure(isPawlError(error) ? error : surprise(error))
    return isPawlError(error, 'usage') ? exitCodes.usage : exitCodes.failed
  }
}

/** What commander found, and how to say it; help and version are no fault. */
class WrongUsage extends Error {
  readonly exitCode: number
  readonly fault: { message: string; hint: string } | undefined

  constructor(error: CommanderError, path: string) {
    super(error.message)
    const shown = error.code === 'commander.help' // help instead of a command that was left out: already printed
    this.exitCode = error.exitCode === 0 ? exitCodes.done : exitCodes.usage
    this.fault = error.exitCode === 0 || shown ? undefined : usageFault(error.message, path)
  }
}

/** Commander does not say which command it was at; each is told to. */
function tellWhichCommand(command: Command, parent = ''): void {
  const path = `${parent}${command.name()}`
  command.exitOverride((error) => {
    throw new WrongUsage(error, path)
  })
  for (const child of command.commands) tellWhichCommand(child, `${path} `)
}

/** A fault of our own: its place in the code is the only thing that helps. */
function surprise(error: unknown): PawlError {
  const { message, stack } = error instanceof Error ? error : new Error(String(error))
  const place = /\n\s+(at .*)/.exec(stack ?? '')?.[1]
  return new PawlError('internal', `unexpected: ${message}`, {
    hint: `this is a fault in pawl; please report it${place === undefined ? '' : ` (${place})`}`,
  })
}
