import { keepConsoleLog } from '../boot/console-log.ts'
import type { BootContext } from '../boot/context.ts'
import { findOpenArtifact, openDownload, redirectDownload } from '../boot/download.ts'
import { redeemEpoxy } from '../boot/epoxy.ts'
import { askExtension } from '../boot/extension.ts'
import { extensionKeySet } from '../boot/extension-keys.ts'
import { issueIdentity } from '../boot/identity.ts'
import { identityConfiguration } from '../boot/identity-configuration.ts'
import { registerKey } from '../boot/identity-key.ts'
import { identityKeySet } from '../boot/identity-keys.ts'
import { recorded } from '../boot/recorded.ts'
import { redeem } from '../boot/redeem.ts'
import { takeReport } from '../boot/report.ts'
import { confirmSecret } from '../boot/rotate-secret.ts'
import { serveHandover } from '../boot/serve-handover.ts'
import { serveSeed } from '../boot/serve-seed.ts'
import { serveStage1 } from '../boot/serve-stage1.ts'
import { openSignature } from '../boot/signed-manifest.ts'
import { siteScript } from '../boot/site-script.ts'
import type { BootStory } from '../boot/story.ts'
import { countTransfer, mayTransfer, noteRedirected, renewTransfer } from '../boot/transfer.ts'
import { recordRefusal } from '../boot/work.ts'
import { Refusal } from '../domain/refusal.ts'
import { enrolArrival, serveArrival } from './arrivals.ts'
import { takeHeartbeat } from './processes.ts'

/** The story of boots by one entry, answered in this process: each step is a function of `boot/`, or of enrolment. */
export function openStory(context: BootContext): BootStory {
  return {
    transfers: context.transfers,
    clock: context.clock,
    siteScript: async (of) => siteScript(context, of),
    stage1: (request) => recorded(context, request, (seen) => serveStage1(seen, request)),
    arrive: (request) => recorded(context, request, (seen) => serveArrival(seen, request)),
    enrol: (request) => enrolArrival(context, request),
    handover: (request) => recorded(context, request, (seen) => serveHandover(seen, request)),
    redeem: (request) => recorded(context, request, (seen) => redeem(seen, request)),
    redeemEpoxy: (request) => recorded(context, request, (seen) => redeemEpoxy(seen, request)),
    seed: (request) => recorded(context, request, (seen) => serveSeed(seen, request)),
    extension: (request) => recorded(context, request, (seen) => askExtension(seen, request)),
    extensionKeySet: async () => JSON.stringify(await extensionKeySet(context)),
    report: (request) => recorded(context, request, (seen) => takeReport(seen, request)),
    confirmSecret: (request) => recorded(context, request, (seen) => confirmSecret(seen, request)),
    registerKey: (request) => recorded(context, request, (seen) => registerKey(seen, request)),
    issueIdentity: (request) => recorded(context, request, (seen) => issueIdentity(seen, request)),
    identityConfiguration: async () => identityConfiguration(context),
    identityKeySet: async () => JSON.stringify(await identityKeySet(context)),
    consoleLog: (request) => recorded(context, request, (seen) => keepConsoleLog(seen, request)),
    malformed: (asking, reason) =>
      recordRefusal(context, asking, new Refusal('malformed', { detail: { reason } })),
    handshakeFailed: (fault) =>
      context.refusals.record({ kind: 'handshake-failed', node: null, session: null, ...fault }),
    openDownload: (request) => recorded(context, request, (seen) => openDownload(seen, request)),
    openSignature: (request) => recorded(context, request, (seen) => openSignature(seen, request)),
    redirectDownload: async (download, asked) => {
      const url = await redirectDownload(context, download, asked)
      if (url !== undefined) noteRedirected(context, download, asked)
      return url
    },
    findOpenArtifact: (digest) => findOpenArtifact(context.storage.db, digest),
    mayTransfer: (download) => mayTransfer(context, download),
    renewTransfer: (download) => renewTransfer(context, download),
    heartbeat: (beat) => takeHeartbeat(context, beat),
    countTransfer: (download, sent) => countTransfer(context, download, sent),
  }
}
