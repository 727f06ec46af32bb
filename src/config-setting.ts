/** One setting. Its key in the table is its name in the file and in the code. */
export interface Setting<T> {
  readonly flag: `--${string}`
  readonly env: `PAWL_${string}`
  readonly unit:
    | 'path'
    | 'file'
    | 'HOST:PORT'
    | 'URL'
    | 'name'
    | 'address'
    | 'word'
    | 'seconds'
    | 'days'
    | 'bytes'
    | 'MiB'
    | 'count'
  /** As text, read by `parse` like any other; null where there is none, or where `meaning` says what takes its place. */
  readonly default: string | null
  readonly meaning: string
  /** Reads one value; throws `ValueFault`. */
  readonly parse: (text: string) => T
  /** Holds a list: the flag may be repeated, the variable is separated by commas, the file has a YAML list. */
  readonly many?: true
  /** May hold a secret: errors do not show its value. */
  readonly secret?: true
  /** Decides where the file is, so the file cannot hold it. */
  readonly notInFile?: true
}

/** Flag `--some-name` and variable `PAWL_SOME_NAME`, with unit and default. */
export function named<Unit extends Setting<unknown>['unit'], Default extends string | null>(
  name: string,
  unit: Unit,
  value: Default,
) {
  const env: `PAWL_${string}` = `PAWL_${name.toUpperCase().replaceAll('-', '_')}`
  const flag: `--${string}` = `--${name}`
  return { flag, env, unit, default: value }
}
