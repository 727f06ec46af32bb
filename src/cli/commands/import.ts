import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { PawlError } from '../../errors.ts'
import { answer, type Context } from '../context.ts'
import { withExamples } from '../examples.ts'
import { count } from '../format.ts'
import type { Imported } from '../import/gather.ts'
import type { MatchboxFile } from '../import/matchbox.ts'
import { toned } from '../text.ts'
import { collect, parsePairs } from '../values.ts'
import { writeFolder } from '../write-folder.ts'
import { printFiles } from './fleet.ts'

interface Flags {
  readonly out?: string
  readonly preview?: true
}

const outOption = ['--out <DIR>', 'write the files into a folder; nothing there is overwritten'] as const
const previewOption = ['--preview', 'only show what becomes of each machine, and what is not kept'] as const
const maxBytes = 64 * 1024 * 1024
const maxShown = 100

/** Adds `pawl import …`: files of other systems become fleet files. No server is asked, and none is changed. */
export function addImportCommands(program: Command, context: Context): void {
  const group = program
    .command('import')
    .description(
      'Make fleet files from what other systems keep. Changes no server: look at them, then pawl diff and apply.',
    )
  addEpoxy(group, context)
  addMatchbox(group, context)
  addCsv(group, context)
}

function addEpoxy(group: Command, context: Context): void {
  const command = group
    .command('epoxy')
    .description(
      'From host records of ePoxy: what `epoxy_admin list` prints, a JSON list of them, or a folder of such files.',
    )
    .argument('<file>', 'the file, or a folder with *.json; "-" reads stdin')
    .option(...outOption)
    .option(...previewOption)
    .action(async (file: string, flags: Flags) => {
      const { importEpoxy } = await import('../import/epoxy.ts')
      await show(
        context,
        flags,
        'pawl import epoxy',
        importEpoxy(await hostRecords(context, file), named(file), context.io.now()),
      )
    })
  withExamples(command, [
    'pawl import epoxy hosts.json --preview',
    'pawl import epoxy hosts.json > fleet.yaml',
    'pawl import epoxy hosts/ --out fleet',
  ])
}

/** Host records of one file, or of all in a folder: each of them is whole. */
async function hostRecords(context: Context, file: string): Promise<string> {
  const found = file === '-' ? undefined : await stat(file).catch(() => undefined)
  if (found?.isDirectory() !== true) return textOfFile(context, file)
  const { epoxyRecords } = await import('../import/epoxy-records.ts')
  const files = await jsonFiles(context, file)
  if (files.length === 0) throw new PawlError('not-found', `there is no *.json in ${file}`)
  for (const { path, text } of files) epoxyRecords(text, path)
  return files.map(({ text }) => text).join('\n')
}

function addMatchbox(group: Command, context: Context): void {
  const command = group
    .command('matchbox')
    .description("From matchbox's data folder: groups/*.json and profiles/*.json.")
    .argument('<dir>', 'the folder that has groups/ and profiles/')
    .option('--stage2 <IMAGE>', 'what the profiles boot first', 'minimal@1')
    .option(...outOption)
    .option(...previewOption)
    .action(async (dir: string, flags: Flags & { stage2: string }) => {
      const { importMatchbox } = await import('../import/matchbox.ts')
      const groups = await jsonFiles(context, join(dir, 'groups'))
      const profiles = await jsonFiles(context, join(dir, 'profiles'))
      if (groups.length + profiles.length === 0)
        throw new PawlError('not-found', `there is no groups/*.json or profiles/*.json in ${dir}`)
      await show(
        context,
        flags,
        'pawl import matchbox',
        importMatchbox({ groups, profiles, stage2: flags.stage2 }),
      )
    })
  withExamples(command, ['pawl import matchbox /var/lib/matchbox --out fleet'])
}

function addCsv(group: Command, context: Context): void {
  const command = group
    .command('csv')
    .description('From an inventory as CSV, whose first line names the columns.')
    .argument('<file>', 'the file; "-" reads stdin')
    .option(
      '--map <COLUMN=FIELD>',
      'name, addresses, macs, uuid, serial, profile, labels.KEY, or "-" for none; can be repeated',
      collect,
    )
    .option(...outOption)
    .option(...previewOption)
    .action(async (file: string, flags: Flags & { map?: readonly string[] }) => {
      const { importCsv } = await import('../import/csv.ts')
      const map = parsePairs(flags.map ?? [], false, '--map') as Record<string, string> // none is empty
      await show(
        context,
        flags,
        'pawl import csv',
        importCsv(await textOfFile(context, file), named(file), map),
      )
    })
  withExamples(command, [
    'pawl import csv inventory.csv > nodes.yaml',
    "pawl import csv inventory.csv --map 'Asset tag=serial' --out fleet",
  ])
}

async function show(context: Context, flags: Flags, by: string, imported: Imported): Promise<void> {
  const { fleet, warnings, records, beside = [] } = imported
  const { schemaFile } = await import('./fleet.ts')
  const { writeFleet } = await import('../fleet-yaml.ts')
  const { out, preview } = flags
  const files = writeFleet(fleet, [`# Written by ${by}. Look at it, then: pawl diff -f`])
  const written =
    out === undefined || preview === true
      ? undefined
      : await writeFolder(out, [...files, await schemaFile(), ...beside])
  answer(context, { ...fleet, warnings, records }, () => {
    if (preview === true) return showPreview(context, imported)
    if (written === undefined) return printFiles(context, files)
    const { nodes, profiles } = fleet
    const what = `${count(nodes.length, 'node')} and ${count(profiles.length, 'profile')}`
    context.output.line(
      written === 0 ? `${out} has ${what} already: nothing was written` : `wrote ${what} to ${out}`,
    )
  })
  const told = preview === true ? imported.remarks : warnings // a preview has said the others machine by machine
  for (const warning of told.slice(0, maxShown)) context.output.warning(warning)
  if (told.length > maxShown)
    context.output.warning(`${count(told.length - maxShown, 'more warning')}; --json has them all`)
}

/** What becomes of each machine: its node, or none, and what of it is not kept. */
function showPreview({ output }: Context, { records }: Imported): void {
  output.table(
    [
      { title: 'RECORD', min: 12 },
      { title: 'NODE', min: 8 },
      { title: 'PROFILE', min: 8 },
      { title: 'NOT KEPT', min: 20 },
    ],
    records.flatMap(({ record, node, profile, notKept }) =>
      (notKept.length === 0 ? ['-'] : notKept).map((why, index) =>
        index === 0 ? [record, node ?? toned('bad', 'none'), profile ?? '-', why] : ['', '', '', why],
      ),
    ),
  )
  output.note('nothing was written, and no server was asked')
}

async function textOfFile({ io }: Context, file: string): Promise<string> {
  const { decode, readBytes } = await import('../yaml-file.ts')
  return decode(await readBytes(file, io.stdin, maxBytes), named(file))
}

function named(file: string): string {
  return file === '-' ? 'stdin' : file
}

/** The *.json files of a folder, by name; none where there is no such folder. */
async function jsonFiles(context: Context, folder: string): Promise<MatchboxFile[]> {
  const entries = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw new PawlError('invalid', `${folder} cannot be read (${error.code})`)
  })
  const names = entries.filter((name) => name.endsWith('.json')).sort()
  const files: MatchboxFile[] = []
  let bytes = 0
  for (const name of names) {
    const path = join(folder, name)
    const text = await textOfFile(context, path)
    bytes += text.length
    if (bytes > maxBytes) throw new PawlError('too-large', `${folder} is larger than 64 MiB`)
    files.push({ path, text })
  }
  return files
}
