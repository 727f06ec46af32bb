import type { Command } from 'commander'
import { PawlError } from '../../errors.ts'
import { answer, type Context } from '../context.ts'
import { withExamples } from '../examples.ts'
import type { SettingFlags } from '../io.ts'
import type { BootClient, DoctorBootResult } from '../local-results.ts'
import { type Piece, toned } from '../text.ts'

/** Adds `pawl doctor boot`. */
export function addDoctorBootCommand(doctor: Command, context: Context): void {
  const command = doctor
    .command('boot')
    .description(
      'Try which boot firmware can boot: say what iPXE of 2019 to 2026, EDK2 and others say first to the running boot listener, and look at its answer. Exits 1 when one cannot that is needed.',
    )
    .option('--url <URL>', 'https://HOST:PORT of a boot listener; without it the one of the data folder')
    .option('--need <CLIENT...>', 'clients that must be able to boot, by their name in the table, or all')
    .option('--proxy-protocol', 'the listener expects a PROXY header from this machine')
    .action(async (flags: SettingFlags) => {
      const result = await context.local.doctorBoot({ ...context.flags(), ...flags }, context.io)
      answer(context, result, () => show(context, result))
      if (result.ok) return
      const failed = result.clients.filter(({ needed, canBoot }) => needed && !canBoot)
      throw new PawlError('conflict', `cannot boot: ${failed.map(({ id }) => id).join(', ')}`)
    })
  withExamples(command, [
    'pawl doctor boot --data DIR',
    'pawl doctor boot --url https://boot.example.net:8443',
    'pawl doctor boot --data DIR --need ipxe-2022 edk2-2022 agent',
  ])
}

function show({ output }: Context, { clients }: DoctorBootResult): void {
  output.table(
    [
      { title: 'CLIENT' },
      { title: 'ORIGIN', drop: 2 },
      { title: 'GETS' },
      { title: 'KEYS', drop: 3 },
      { title: 'CERTIFICATE', drop: 4 },
      { title: 'CHAIN', drop: 5 },
      { title: 'LIMIT', drop: 1 },
      { title: 'BOOTS' },
    ],
    clients.map((client) => [
      client.id,
      client.origin,
      client.outcome,
      client.keyExchange ?? '-',
      client.certificate ?? (client.suite === null ? '-' : 'not visible'),
      chainOf(client),
      limitOf(client),
      boots(client),
    ]),
  )
  for (const { id, name, change, warnings } of clients) {
    for (const text of change) output.line(toned('bad', 'cannot'), `  ${id} (${name}): ${text}`)
    for (const text of warnings) output.line(toned('warn', 'warn'), `    ${id} (${name}): ${text}`)
  }
  if (clients.some(({ origin }) => origin === 'reconstructed')) {
    output.line('reconstructed: built from what is published, not captured from a machine')
  }
}

/** `3 with root`. */
function chainOf({ chainLength, rootIncluded }: BootClient): string {
  return chainLength === null ? '-' : `${chainLength}, ${rootIncluded === true ? 'with' : 'no'} root`
}

/** What became of the client's wish for small records. */
function limitOf({ fragmentLimitHonoured: honoured }: BootClient): Piece {
  if (honoured === null) return '-'
  return honoured ? 'kept' : toned('warn', 'not kept')
}

function boots({ canBoot, needed, warnings }: BootClient): Piece {
  if (canBoot) return warnings.length === 0 ? toned('good', 'yes') : toned('warn', 'yes')
  return toned(needed ? 'bad' : 'warn', needed ? 'NO, needed' : 'no')
}
