import type { AddressRange } from '../domain/address.ts'
import type { Clock } from '../domain/clock.ts'
import type { SyslogServer } from '../domain/syslog-server.ts'
import type { ArtifactRedirects } from '../images/artifacts.ts'
import type { Joining } from '../joining/joining.ts'
import type { Storage } from '../storage/database.ts'
import type { Templates } from '../templates/load.ts'
import type { BootEntry } from './entry.ts'
import type { ExtensionService } from './extension.ts'
import type { BootMeter } from './meter.ts'
import type { RefusalLog } from './refusal-log.ts'
import type { SettingsSealer } from './settings-sealer.ts'
import type { SpanLog } from './span-log.ts'
import type { Transfers } from './transfers.ts'

/** Lifetimes and limits of the boot story, from the settings; seconds. */
export interface BootSettings {
  readonly publicUrl: string
  readonly tokenLifetimeSeconds: number
  readonly epoxyTokenLifetimeSeconds: number
  readonly reportTokenLifetimeSeconds: number
  readonly sessionIdleSeconds: number
  readonly sessionMaxSeconds: number
  readonly maxStage1PerHour: number
  /** So many stage 1s without a report within the window are a loop; 0: none are. */
  readonly loopStage1s: number
  readonly loopWindowSeconds: number
  readonly slowPercent: number
  readonly stuckPercent: number
  readonly stuckSilenceSeconds: number
  readonly maxReinstallAttempts: number
  /** A node whose last so many reinstalls failed is not marked again unless forced; 0: always. */
  readonly maxReinstallFailures: number
  /** How long a mark is good for, if nobody says; 0: for ever. */
  readonly reinstallMarkSeconds: number
  readonly repeatStage1Seconds: number
  /** Two machines that come as one node in turn within this time raise an alarm. */
  readonly alternatingMachinesSeconds: number
  readonly enrolmentLifetimeSeconds: number
  readonly maxPendingMachines: number
  /** Networks beside the public Internet that webhooks may go to. */
  readonly webhookAllowedNetworks: readonly AddressRange[]
  /** The same for extension services. */
  readonly extensionAllowedNetworks: readonly AddressRange[]
  /** Where iPXE is to send its console; undefined for nowhere. */
  readonly ipxeSyslog: SyslogServer | undefined
  /** Whether boots are exported as traces. */
  readonly traces: boolean
  readonly identity: IdentitySettings
}

/** The identity documents of nodes. */
export interface IdentitySettings {
  /** Left out: the public URL. */
  readonly issuer: string | undefined
  readonly seconds: number
  /** A node renews so long before the end. */
  readonly overlapSeconds: number
  readonly keyDays: number
  /** A new key is published so long before it signs. */
  readonly keyLeadSeconds: number
}

/** What the steps of a boot use. Wired by hand in server.ts. */
export interface BootContext {
  readonly storage: Storage
  readonly clock: Clock
  readonly randomBytes: (size: number) => Uint8Array
  readonly templates: Templates
  readonly settings: BootSettings
  readonly sealer: SettingsSealer
  /** The root of this installation's CA, PEM: what its checkpoints name. Nodes trust what their entry says. */
  readonly rootCertificate: () => string
  /** By which address machines come, and which root they know there. Each boot listener's context has its own. */
  readonly entry: BootEntry
  /** All there are: the one for new media first. */
  readonly entries: () => readonly BootEntry[]
  readonly refusals: RefusalLog
  readonly transfers: Transfers
  /** Told of what goes wrong behind a commit: the answer that was committed is given all the same. */
  readonly onEffectError?: (error: unknown) => void
  /** Counts what happens; left out where nobody asks. */
  readonly meter?: BootMeter
  /** Has credentials made for one boot at the cluster that it joins; left out where nobody boots. */
  readonly joining?: Joining
  /** What happened within sessions; left out where nobody keeps it. */
  readonly spans?: SpanLog
  /** Asks extension services; left out where there are none to ask. */
  readonly extensions?: ExtensionService
  /** Where agents can be sent for artifacts; left out where they are kept in a folder. */
  readonly redirects?: ArtifactRedirects
  /** The CA of caches and mirrors of artifacts, PEM, where it is not ours. */
  readonly artifactCa?: string
}
