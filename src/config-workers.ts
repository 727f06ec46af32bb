import { named, type Setting } from './config-setting.ts'
import { wholeNumber } from './config-values.ts'

/** How many processes serve machines, and how they share the database. */
export const workerSettings = {
  workers: {
    ...named('workers', 'count', '1'),
    meaning:
      'Processes that serve machines, best one per core. 1: one process does everything. More: limits and memory of the boot listener are those of each.',
    parse: wholeNumber(1, 64),
  },
  databaseConnections: {
    ...named('database-connections', 'count', '10'),
    meaning: 'Connections to PostgreSQL at one time, of each process; SQLite has one.',
    parse: wholeNumber(2, 200),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
