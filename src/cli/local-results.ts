/** What the commands on a data folder itself answer; `main.ts` hands in who does the work. */

/** What `pawl backup` wrote. */
export interface BackupResult {
  readonly createdAt: string
  readonly bytes: number
  readonly members: number
  readonly rows: number
  readonly artifacts: 'included' | 'left-out' | 'elsewhere'
  readonly artifactCount: number
  readonly damaged: readonly string[]
  readonly missing: readonly string[]
  readonly leftOut: readonly string[]
}

interface Credential {
  readonly id: string
  readonly name: string
  readonly role: string
  readonly createdAt: string
}

/** What `pawl restore` put in place, and what must be looked at. */
export interface RestoreResult {
  readonly dataDir: string
  readonly database: string
  readonly createdAt: string
  readonly version: string
  readonly rows: number
  readonly artifacts: BackupResult['artifacts']
  readonly artifactCount: number
  readonly damaged: readonly string[]
  readonly settingsDatabase?: string
  readonly sessions: number
  readonly paused: number
  readonly rules: number
  readonly operators: readonly Credential[]
  readonly certificates: readonly Credential[]
  readonly marked: readonly string[]
}

/** What `pawl database downgrade` took back, or would. */
export interface DowngradeResult {
  readonly release: string
  readonly applied: boolean
  readonly backup: string | null
  readonly undone: readonly string[]
  readonly rows: readonly { readonly table: string; readonly count: number }[]
  readonly values: readonly { readonly table: string; readonly column: string; readonly count: number }[]
}

/** What `pawl database move` moved. */
export interface MoveResult {
  readonly from: string
  readonly to: string
  readonly tables: number
  readonly rows: number
  readonly chains: number
  readonly events: number
  readonly checkpoint: number
}

/** What `pawl root rotate` made. */
export interface RotateResult {
  readonly from: string
  readonly to: string
  readonly ca: string
  readonly created: readonly string[]
}

/** A node that came by the old root. */
interface RootUser {
  readonly node: string
  readonly lastAt: string
  readonly source: string
  readonly otherAt: string | null
}

/** What `pawl root cut-over` did, or would. */
export interface CutOverResult {
  readonly applied: boolean
  readonly from: string
  readonly to: string
  readonly days: number
  readonly users: readonly RootUser[]
  readonly stranded: readonly RootUser[]
  readonly moved: number
  readonly retired: string | null
}

/** How one thing is that `pawl doctor` looked at. */
export interface Finding {
  readonly check: string
  readonly level: 'ok' | 'warn' | 'fail'
  /** What was found, in words. */
  readonly found: string
  /** What to do; none where all is well. */
  readonly advice?: string
}

/** All that `pawl doctor` found. */
export interface DoctorResult {
  readonly version: string
  readonly dataDir: string
  readonly ok: boolean
  readonly findings: readonly Finding[]
}

/** What one known client gets from a boot listener. */
export interface BootClient {
  readonly id: string
  readonly name: string
  readonly origin: 'captured' | 'reconstructed'
  readonly canBoot: boolean
  readonly needed: boolean
  readonly outcome: string
  readonly version: string | null
  readonly suite: string | null
  readonly keyExchange: string | null
  readonly certificate: string | null
  readonly chainLength: number | null
  readonly rootIncluded: boolean | null
  readonly fragmentLimitHonoured: boolean | null
  readonly asksCertificate: boolean
  readonly change: readonly string[]
  readonly warnings: readonly string[]
}

/** All that `pawl doctor boot` found. */
export interface DoctorBootResult {
  readonly url: string
  readonly ok: boolean
  readonly clients: readonly BootClient[]
}
