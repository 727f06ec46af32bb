import type { Clock } from '../domain/clock.ts'
import type { Artifact } from '../domain/image.ts'
import type { Heartbeat } from '../domain/load.ts'
import type { Arrival } from '../domain/span.ts'
import type { ConsoleLog } from './console-log.ts'
import type { Download, DownloadRequest } from './download.ts'
import type { EnrolRequest } from './enrol.ts'
import type { EpoxyRedemption } from './epoxy.ts'
import type { ExtensionAnswer, ExtensionRequest } from './extension.ts'
import type { IdentityRequest } from './identity.ts'
import type { KeyRegistration } from './identity-key.ts'
import type { Redemption } from './redeem.ts'
import type { Report } from './report.ts'
import type { SecretWritten } from './rotate-secret.ts'
import type { SeedRequest } from './serve-seed.ts'
import type { Stage1Request } from './serve-stage1.ts'
import type { SiteScriptOf } from './site-script.ts'
import type { Stage1Answer } from './stage1-answer.ts'
import type { Sent } from './transfer.ts'
import type { Transfers } from './transfers.ts'
import type { Asking } from './work.ts'

/**
 * All that a boot listener asks of the rest. Every method takes and gives plain data, so that the listener may live in a
 * process of its own: `openStory` (fleet/open-story.ts) answers here, and `remoteStory` (workers/) asks the process that
 * writes. What a method throws is a PawlError; a refusal is on record by then.
 */
export interface BootStory extends StorySteps {
  /** The downloads under way in this process: the end of a session cuts them, wherever it ended. */
  readonly transfers: Transfers
  readonly clock: Clock
}

/** What is asked, and may be asked from another process. */
export interface StorySteps {
  /** The script that calls stage 1, for a medium that knows its node or none. */
  siteScript(of: Pick<SiteScriptOf, 'host'>): Promise<string>
  /** Undefined where no node matches the facts of a request without a host name. */
  stage1(request: Stage1Request): Promise<Stage1Answer | undefined>
  /** Stage 1 of a machine without a name, or its enrolment: the script. */
  arrive(request: EnrolRequest): Promise<string>
  enrol(request: EnrolRequest): Promise<string>
  handover(request: HandoverRequest): Promise<string>
  redeem(request: Redemption): Promise<string>
  redeemEpoxy(request: EpoxyRedemption): Promise<string>
  /** A file that cloud-init or Ignition asks for. */
  seed(request: SeedRequest): Promise<string>
  report(request: Report): Promise<void>
  /** Asks an extension for a node. */
  extension(request: ExtensionRequest): Promise<ExtensionAnswer>
  /** The public halves of what extension services see signed: JSON. */
  extensionKeySet(): Promise<string>
  confirmSecret(request: SecretWritten): Promise<void>
  /** Registers the key of a boot's identity; the answer. */
  registerKey(request: KeyRegistration): Promise<string>
  /** Gives out an identity document; the answer. */
  issueIdentity(request: IdentityRequest): Promise<string>
  /** What is published of the issuer, and of its keys: JSON. */
  identityConfiguration(): Promise<string>
  identityKeySet(): Promise<string>
  /** Keeps the last lines of a console that failed. */
  consoleLog(request: ConsoleLog): Promise<void>
  /** Puts a request that could not be read on record. */
  malformed(asking: Asking, reason: string): Promise<void>
  /** Puts a handshake that came to nothing on record; never throws and never waits. */
  handshakeFailed(fault: HandshakeFault): void
  openDownload(request: DownloadRequest): Promise<Download>
  /** The detached signature of an artifact, DER. */
  openSignature(request: DownloadRequest): Promise<Uint8Array>
  /** Where the client of a download is sent for its bytes; undefined where we send them. */
  redirectDownload(
    download: Download,
    asked: { readonly bytes: number; readonly source: string; readonly arrival?: Arrival },
  ): Promise<string | undefined>
  /** An artifact that anyone may fetch by its digest. */
  findOpenArtifact(digest: string): Promise<Artifact | undefined>
  /** Whether a session may still be sent bytes; asked when a transfer begins. */
  mayTransfer(download: Download): Promise<boolean>
  /** The same for a transfer that moves: it keeps the session awake. */
  renewTransfer(download: Download): Promise<boolean>
  /** Takes down what a process that serves machines says of itself; answers the sites of the nodes it asks about. */
  heartbeat(beat: Heartbeat): Promise<Readonly<Record<string, string>>>
  /** Counts what a transfer sent. */
  countTransfer(download: Download, sent: Sent): Promise<void>
}

/** Asks for the handover. */
export interface HandoverRequest extends Asking {
  readonly token: string | undefined
}

/** A handshake that came to nothing. */
export interface HandshakeFault {
  readonly cause: string
  readonly source: string
  /** In words, for the event. */
  readonly detail: Readonly<Record<string, unknown>>
}
