import type { Readable, Writable } from 'node:stream'
import type {
  BackupResult,
  CutOverResult,
  DoctorBootResult,
  DoctorResult,
  DowngradeResult,
  MoveResult,
  RestoreResult,
  RotateResult,
} from './local-results.ts'

/**
 * The command line is a client of the operator API: what it shows and changes goes through HTTPS, with a token, like any
 * other program's. It begins in `main.ts`; `program.ts` lists the commands, each of which is a file under `commands/`.
 * Process, clock and terminal are handed in here, so that a test runs a command as a user does.
 */
export interface Io {
  /** What follows the program's name. */
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: Readable
  readonly stdout: Writable
  readonly stderr: Writable
  readonly now: () => Date
  /** Waits, where there is nothing to wait for but time; a timer where it is left out. */
  readonly wait?: (milliseconds: number) => Promise<void>
  /** Which of the two outputs is a terminal: colours, truncation to its width and a moving progress bar go there only. */
  readonly isTTY: { readonly stdout: boolean; readonly stderr: boolean }
  /** The terminal's width; 80 where it is not known. */
  readonly columns?: number | undefined
  /** The terminal's size as it is now, for what is drawn again and again. */
  readonly size?: () => { readonly columns: number; readonly rows: number }
  /** Calls `listener` when the user ends the command (Ctrl-C) or it is told to stop; returns what takes it back. */
  readonly onInterrupt?: (listener: () => void) => () => void
}

/** Flags of `pawl init` and `pawl server` as they were typed, by their names in camel case. `config.ts` reads and checks them. */
export type SettingFlags = Readonly<Record<string, unknown>>

/** What `pawl init` made; `created` is empty where all was there. */
export interface InitResult {
  /** The root certificate to trust, a path. */
  readonly ca: string
  /** The file with the first admin's token. */
  readonly adminToken: string
  readonly created: readonly string[]
}

/** A server of its own in a temporary folder; `close` removes it. */
export interface Scratch {
  readonly dataDir: string
  close(): Promise<void>
}

/** What is no client's work: commands on the data folder itself, and a server to try things on. It is handed in. */
export interface LocalCommands {
  init(flags: SettingFlags, io: Io): Promise<InitResult>
  /** Serves until it is told to stop; prints the ready line itself. */
  server(flags: SettingFlags, io: Io): Promise<void>
  /** Writes a backup to a file, or to stdout for `-`. */
  backup(file: string, flags: SettingFlags, io: Io): Promise<BackupResult>
  /** Restores one from a file, or from stdin for `-`. */
  restore(file: string, flags: SettingFlags, io: Io): Promise<RestoreResult>
  downgrade(flags: SettingFlags, io: Io): Promise<DowngradeResult>
  /** Moves the database from SQLite to PostgreSQL. */
  moveDatabase(flags: SettingFlags, io: Io): Promise<MoveResult>
  doctor(flags: SettingFlags, io: Io): Promise<DoctorResult>
  /** Tries which boot firmware a running boot listener serves. */
  doctorBoot(flags: SettingFlags, io: Io): Promise<DoctorBootResult>
  /** Makes the next CA. */
  rotateRoot(flags: SettingFlags, io: Io): Promise<RotateResult>
  /** Puts it in the place of the one there is, or says what that would do. */
  cutOverRoot(flags: SettingFlags, io: Io): Promise<CutOverResult>
  /** Starts a Pawl on loopback that emulated machines can reach. */
  scratch(): Promise<Scratch>
  /** The folder of the image recipes. */
  readonly recipesFolder: string
}
