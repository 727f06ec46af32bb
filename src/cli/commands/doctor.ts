import type { Command } from 'commander'
import { settings } from '../../config-table.ts'
import { PawlError } from '../../errors.ts'
import { answer, type Context } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count } from '../format.ts'
import type { SettingFlags } from '../io.ts'
import type { DoctorResult, Finding } from '../local-results.ts'
import { addSettingFlag } from '../setting-flag.ts'
import { type Piece, toned } from '../text.ts'
import { addDoctorBootCommand } from './doctor-boot.ts'

/** Adds `pawl doctor` and what belongs to it. */
export function addDoctorCommand(program: Command, context: Context): void {
  const doctor = program.command('doctor').description('Look whether everything is as it should be.')
  addCheckCommand(doctor, context)
  addDoctorBootCommand(doctor, context)
}

/** `pawl doctor` alone is this. */
function addCheckCommand(doctor: Command, context: Context): void {
  const command = doctor
    .command('check', { isDefault: true })
    .description(
      'Look at certificates, clock, disk, database, listeners, names, templates, images and settings, and say what to do. Changes nothing. Exits 1 when something fails.',
    )
    .option('--full', 'read every artifact, too')
  for (const [name, setting] of Object.entries(settings)) {
    if (name !== 'dataDir') addSettingFlag(command, setting)
  }
  command.action(async (flags: SettingFlags) => {
    const result = await context.local.doctor({ ...context.flags(), ...flags }, context.io)
    answer(context, result, () => show(context, result))
    if (result.ok) return
    const failed = result.findings.filter(({ level }) => level === 'fail').length
    throw new PawlError('conflict', `${count(failed, 'check')} failed`)
  })
  withExamples(command, ['pawl doctor --data DIR', 'pawl doctor --data DIR --full --json'])
}

const words: Readonly<Record<Finding['level'], Piece>> = {
  ok: toned('good', 'ok  '),
  warn: toned('warn', 'warn'),
  fail: toned('bad', 'FAIL'),
}

function show({ output }: Context, { findings }: DoctorResult): void {
  for (const { check, level, found, advice } of findings) {
    output.line(words[level], `  ${check}: ${found}`)
    if (advice !== undefined) output.line(`      ${advice}`)
  }
}
