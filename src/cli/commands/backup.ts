import type { Command } from 'commander'
import { settings } from '../../config-table.ts'
import { PawlError } from '../../errors.ts'
import { answer, type Context } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count, formatSize, formatTime } from '../format.ts'
import type { SettingFlags } from '../io.ts'
import type { BackupResult, RestoreResult } from '../local-results.ts'
import { addSettingFlag } from '../setting-flag.ts'

/** Adds `pawl backup` and `pawl restore`. */
export function addBackupCommands(program: Command, context: Context): void {
  addBackup(program, context)
  addRestore(program, context)
}

function addBackup(program: Command, context: Context): void {
  const command = program
    .command('backup <file>')
    .description(
      'Write everything there is to one file, while the server runs: database, CA and keys, settings, templates, artifacts. It holds private keys. "-" is stdout.',
    )
    .option('--without-artifacts', "leave out the images' files")
  for (const name of ['database', 'artifacts'] as const) addSettingFlag(command, settings[name])
  command.action(async (file: string, flags: SettingFlags) => {
    if (file === '-' && context.io.isTTY.stdout) {
      throw new PawlError('usage', 'a backup is not written to a terminal', {
        hint: 'name a file, or pipe it into age or gpg',
      })
    }
    const made = await context.local.backup(file, { ...context.flags(), ...flags }, context.io)
    tellFaults(context, made)
    if (file !== '-') answer(context, { file, ...made }, () => showBackup(context, file, made))
  })
  withExamples(command, [
    'pawl backup pawl-2026-11-21.tar --data DIR',
    'pawl backup - --data DIR | age -r age1... > pawl.tar.age',
    'pawl backup - --data DIR --without-artifacts | gpg -e -r ops > pawl.tar.gpg',
  ])
}

function showBackup({ output }: Context, file: string, made: BackupResult): void {
  const images = {
    included: count(made.artifactCount, 'artifact'),
    'left-out': 'without artifacts',
    elsewhere: 'without artifacts, which are in object storage',
  }
  output.line(`${file}: ${formatSize(made.bytes)}, ${count(made.rows, 'row')}, ${images[made.artifacts]}`)
  output.note('it holds private keys: keep it where nobody else can read it, or encrypt it')
}

function tellFaults({ output }: Context, { damaged, missing, leftOut }: BackupResult): void {
  if (damaged.length > 0) {
    const which = damaged.map((digest) => digest.slice(0, 12)).join(', ')
    output.warning(
      `${count(damaged.length, 'artifact')} went bad on the disk (${which}): publish their images again`,
    )
  }
  if (missing.length > 0) {
    const which = missing.map((digest) => digest.slice(0, 12)).join(', ')
    output.warning(
      `${count(missing.length, 'artifact')} of images are not there (${which}): publish them again`,
    )
  }
  for (const name of leftOut)
    output.warning(`${JSON.stringify(name)} is no plain file of ours: it is not in the backup`)
}

function addRestore(program: Command, context: Context): void {
  const command = program
    .command('restore <file>')
    .description(
      'Put a backup into an empty data folder and an empty database. Open boots end, their tokens are spent. "-" is stdin.',
    )
  addSettingFlag(command, settings.database)
  command.action(async (file: string, flags: SettingFlags) => {
    const restored = await context.local.restore(file, { ...context.flags(), ...flags }, context.io)
    answer(context, restored, () => showRestore(context, restored))
    tellWhatToLookAt(context, restored)
  })
  withExamples(command, [
    'pawl restore pawl-2026-11-21.tar --data DIR',
    'age -d -i key.txt pawl.tar.age | pawl restore - --data DIR',
    'PAWL_DATABASE=postgres://pawl@db/pawl pawl restore pawl.tar --data DIR',
  ])
}

function showRestore({ output }: Context, restored: RestoreResult): void {
  const { dataDir, createdAt, version, rows, artifactCount, sessions, paused, rules } = restored
  output.line(`${dataDir}: as it was at ${formatTime(createdAt)} (Pawl ${version})`)
  output.line(`${count(rows, 'row')}, ${count(artifactCount, 'artifact')}`)
  if (sessions > 0) output.line(`${count(sessions, 'open boot')} ended: those nodes begin again at stage 1`)
  if (paused > 0)
    output.line(`${count(paused, 'rollout')} or reinstalls of many nodes were under way, and are paused`)
  if (rules > 0) output.line(`${count(rules, 'rule')} that approved machines revoked`)
  for (const { id, name, role, createdAt: at } of [...restored.operators, ...restored.certificates])
    output.line(`  may operate: ${name}, ${role}, ${id}, since ${formatTime(at)}`)
}

/** A backup does not know what was taken away after it. */
function tellWhatToLookAt({ output }: Context, restored: RestoreResult): void {
  const { operators, certificates, marked, damaged, settingsDatabase, artifacts } = restored
  const credentials = operators.length + certificates.length
  output.warning(
    `${count(credentials, 'credential')} of operators, secrets of nodes and certificates of publishers are good again that may have been revoked since: look at pawl operator token list`,
  )
  if (marked.length > 0) {
    const which = `${marked.slice(0, 10).join(', ')}${marked.length > 10 ? ', …' : ''}`
    output.warning(
      `the next boot of ${count(marked.length, 'node')} REINSTALLS it, even if that was done since: ${which}; cancel with pawl node reinstall NAME --cancel`,
    )
  }
  if (artifacts !== 'included')
    output.warning('the backup has no artifacts: publish the images again, or copy them')
  if (damaged.length > 0)
    output.warning(`${count(damaged.length, 'artifact')} of it was bad and is not restored`)
  if (settingsDatabase !== undefined) {
    output.warning(
      `by pawl.yaml the server would open ${settingsDatabase}: name the restored one there, or with --database`,
    )
  }
}
