import type { BootContext } from '../boot/context.ts'
import { parseChannelRef } from '../domain/channel.ts'
import type { ProposalKind } from '../domain/proposal.ts'
import { PawlError } from '../errors.ts'
import type { ArtifactStore } from '../images/artifacts.ts'
import { checkPublishable } from '../images/publish.ts'
import { findChannel } from '../storage/channels.ts'
import { type By, type Change, change } from './change.ts'
import { moveIn } from './channels.ts'
import { type ProposedImage, publishProposed } from './images.ts'
import { checkScope } from './operators.ts'
import { type Approval, approveIn, type ProposalView, rejectIn, showProposal } from './proposals.ts'
import { type NewPublisher, registerPublisherIn } from './publishers.ts'
import { type ProposedRollout, startIn } from './rollouts.ts'

/** Carries out what a proposal holds, in the transaction that approves it. */
type Applier = (change: Change, proposal: ProposalView, approval: Approval) => Promise<unknown>

/**
 * Approves a proposal: what it holds is done now, under the approver's role and scope, or the approval is undone with it.
 * Throws what the change itself would, `forbidden` for one's own proposal, `conflict` where it does not wait any more.
 */
export async function approveProposal(
  context: BootContext,
  by: By,
  store: ArtifactStore,
  id: string,
): Promise<ProposalView> {
  const proposal = await showProposal(context.storage.db, id)
  checkMayDecide(by, proposal)
  // An image's bytes are read back anew: that takes time, and no transaction waits for it.
  if (proposal.kind === 'image' && proposal.state === 'waiting')
    await checkPublishable(imageOf(proposal).manifest, store)
  await change(context, by, async (change) => {
    const approval = await approveIn(change, id)
    await appliers[proposal.kind](change, proposal, approval)
  })
  return showProposal(context.storage.db, id)
}

const appliers: Readonly<Record<ProposalKind, Applier>> = {
  async channel(change, { document, why }, approval) {
    const { channel, version, before, how } = document as unknown as ChannelDocument // written by moveIn
    const ref = parseChannelRef(channel)
    const now = (await findChannel(change.tx, ref))?.version ?? null
    if (now !== before) {
      throw new PawlError(
        'conflict',
        `channel ${channel} is at ${now} by now, it was at ${before} when this was proposed`,
        {
          hint: 'reject the proposal, and propose the move anew',
        },
      )
    }
    return moveIn(change, ref, { how, version, why }, approval)
  },
  rollout(change, { document }, approval) {
    const proposed = document as unknown as ProposedRollout // written by startIn
    return startIn(change, parseChannelRef(proposed.channel), proposed.asked, {
      dryRun: false,
      approval,
      proposed,
    })
  },
  image: (change, proposal, approval) => publishProposed(change, imageOf(proposal), approval),
  publisher: (change, { document }) => registerPublisherIn(change, document as unknown as NewPublisher), // written by registerPublisher
}

/** Turns a proposal down; whoever made it may take it back this way, others as they may approve it. */
export async function rejectProposal(context: BootContext, by: By, id: string): Promise<ProposalView> {
  const proposal = await showProposal(context.storage.db, id)
  if (proposal.proposedBy !== by.actor) checkMayDecide(by, proposal)
  await change(context, by, (change) => rejectIn(change, id))
  return showProposal(context.storage.db, id)
}

/** Images and those who sign them are publishers' business; channels and rollouts are operators' too. */
function checkMayDecide(by: By, { kind, subject }: ProposalView): void {
  if (kind !== 'publisher') checkScope(by, subject.split(/[@/]/)[0] ?? '')
  if (kind === 'publisher' && by.scope != null)
    throw new PawlError('forbidden', `a token for images named "${by.scope}" only cannot let anyone sign`)
  const operators = kind === 'channel' || kind === 'rollout'
  if (operators || by.role === 'publisher' || by.role === 'admin') return
  throw new PawlError('forbidden', `to approve ${kind} ${subject} needs the role publisher or admin`)
}

function imageOf({ document }: ProposalView): ProposedImage {
  return document as unknown as ProposedImage // written by publishImage
}

interface ChannelDocument {
  readonly channel: string
  readonly version: string
  readonly before: string | null
  readonly how: 'set' | 'rollback'
}
