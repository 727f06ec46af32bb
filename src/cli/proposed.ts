import type { ProposalView } from './answers.ts'
import type { Output } from './output.ts'

/** Says that a change waits for a second person, and how they make it. */
export function showProposed(output: Output, { id, subject }: ProposalView): void {
  output.line(`${subject}: nothing is changed yet, this is proposal ${id}`)
  output.note(`a second person must approve it: pawl proposal approve ${id}`)
}
