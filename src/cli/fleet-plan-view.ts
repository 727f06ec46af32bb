import { PawlError as Fault, type PawlError } from '../errors.ts'
import type { FleetPlan } from './answers.ts'
import type { Context } from './context.ts'
import { FileFaults, type LoadedFleet } from './fleet-files.ts'
import { count, formatAge } from './format.ts'
import { operatorName, type Piece, toned } from './text.ts'

type PlannedChange = FleetPlan['changes'][number]
type FieldChange = PlannedChange['fields'][number]

const maxFaults = 20
const signs = { add: toned('good', '+'), change: toned('warn', '~'), remove: toned('bad', '-') } as const
const tones = { add: 'good', change: 'plain', remove: 'bad' } as const

/** Shows a plan as a diff: what is added, changed and removed, field by field, then the sum. */
export function showPlan({ output, io }: Context, plan: FleetPlan): void {
  for (const change of plan.changes) {
    const { action, kind, name, fields, notes } = change
    output.line(signs[action], ' ', toned(tones[action], `${kind} ${name}`))
    if (action !== 'remove') {
      for (const field of fields) output.line('    ', ...fieldLine(field, action, io.now()))
    }
    for (const note of notes) output.line('    ', toned('warn', note))
  }
  output.line(summary(plan))
}

function fieldLine(field: FieldChange, action: PlannedChange['action'], now: Date): Piece[] {
  const after = field.secret ? toned('dim', action === 'add' ? 'set' : 'changed') : shown(field.after)
  if (action === 'add' || field.secret) return [`${field.field}: `, after]
  const by = field.changedBy
  const since = field.drifted
    ? toned(
        'warn',
        by === null
          ? '  (changed since)'
          : `  (changed by ${operatorName(by.actor)} ${formatAge(by.at, now)} ago)`,
      )
    : ''
  return [`${field.field}: `, shown(field.before), ' -> ', after, since]
}

function shown(value: unknown): Piece {
  if (value === null) return toned('dim', 'none')
  if (Array.isArray(value)) return value.length === 0 ? toned('dim', 'none') : value.map(String).join(', ')
  return typeof value === 'string' ? (/^[!-~]+$/.test(value) ? value : JSON.stringify(value)) : String(value)
}

function summary({ counts, applied }: FleetPlan): string {
  const { added, changed, removed, unchanged, adopted, left } = counts
  const done = applied
    ? `${added} added, ${changed} changed, ${removed} removed`
    : `${added} to add, ${changed} to change, ${removed} to remove`
  const more = [
    ...(adopted > 0 ? [`${adopted} ${applied ? 'taken' : 'to take'} into the set`] : []),
    ...(left > 0 ? [`${left} gone from the files and left (--prune removes them)`] : []),
  ]
  return [`${done}, ${unchanged} unchanged`, ...more].join('; ')
}

/** Says what the files and the server warn of. */
export function warnOf(context: Context, loaded: LoadedFleet, plan: FleetPlan): void {
  for (const warning of loaded.warnings) context.output.warning(warning)
  const told = plan.warnings.slice(0, maxFaults)
  for (const { kind, name, message } of told)
    context.output.warning(`${loaded.placeOf(kind, name, null) ?? `${kind} ${name}`}: ${message}`)
  if (plan.warnings.length > told.length)
    context.output.warning(`${count(plan.warnings.length - told.length, 'more warning')}`)
}

/** Throws where the server found faults: each is told at its place in the files. */
export function refuseFaults(context: Context, loaded: LoadedFleet, plan: FleetPlan): void {
  if (plan.faults.length === 0) return
  const faults = plan.faults.map(({ kind, name, field, code, message, hint }) => {
    const place = loaded.placeOf(kind, name, field) ?? `${kind} ${name}`
    const what = field === null ? message : `${field}: ${message}`
    return new Fault(code, `${place}: ${what}`, hint === null ? {} : { hint })
  })
  tellFaults(context, faults, plan.faultCount)
}

/** Reads files; where they have faults, all of them are told. */
export async function orTellFaults<T>(context: Context, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof FileFaults) tellFaults(context, error.faults)
    throw error
  }
}

/** Tells faults one by one, the last by throwing it. Past twenty, how many more there are. */
function tellFaults({ output }: Context, faults: readonly PawlError[], all = faults.length): never {
  const [first, ...others] = faults
  if (first === undefined) throw new Error('there is no fault to tell')
  if (others.length === 0) throw first
  for (const fault of faults.slice(0, maxFaults)) output.failure(fault)
  const more = all - Math.min(faults.length, maxFaults)
  throw new Fault(
    first.code,
    `${count(all, 'fault')} in the files${more > 0 ? ` (${more} are not shown)` : ''}`,
    {
      hint: 'nothing was changed',
    },
  )
}
