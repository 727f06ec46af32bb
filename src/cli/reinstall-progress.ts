import { isPawlError } from '../errors.ts'
import type { CampaignNode, CampaignView, Page } from './answers.ts'
import { type Api, pathOf } from './api.ts'
import type { Context } from './context.ts'
import { sleep, taken, untilInterrupted } from './follow.ts'
import { count, formatAge, formatClock, formatTime } from './format.ts'
import { operatorName, type Piece, type Tone, toned } from './text.ts'

/** How a reinstall of many nodes stands, for people, and followed until it is over. */

const everyMilliseconds = 2000

const tones: Readonly<Record<CampaignView['state'], Tone>> = {
  running: 'plain',
  paused: 'warn',
  completed: 'good',
  cancelled: 'bad',
}

/** A campaign's state with its reason, in its colour. */
export function campaignState({ state, cause }: CampaignView): Piece {
  return toned(tones[state], cause === null ? state : `${state}: ${cause}`)
}

/** Its counts that are not nothing: `waiting 12, marked 3, done 40, failed 1`. */
export function campaignCounts({ counts }: CampaignView): string {
  const told = Object.entries(counts).filter(([, nodes]) => nodes > 0)
  return told.length === 0 ? 'no node' : told.map(([state, nodes]) => `${state} ${nodes}`).join(', ')
}

/** A campaign in full, with the nodes that are of interest: under way, and gone wrong. */
export function showCampaign(context: Context, view: CampaignView, nodes: readonly CampaignNode[]): void {
  const { output, io } = context
  output.fields([
    { name: 'reinstall', value: toned('strong', view.id) },
    { name: 'of', value: `${count(view.nodes, 'node')}: ${view.selection}` },
    { name: 'state', value: campaignState(view) },
    { name: 'nodes', value: campaignCounts(view) },
    { name: 'limit', value: limits(view) },
    { name: 'started', value: `${formatTime(view.startedAt)} by ${operatorName(view.startedBy)}` },
    ...(view.endedAt === null ? [] : [{ name: 'ended', value: formatTime(view.endedAt) }]),
  ])
  if (nodes.length === 0) return
  output.line()
  output.table(
    [
      { title: 'NAME', min: 12 },
      { title: 'REINSTALL', min: 9 },
      { title: 'NODE', min: 8 },
      { title: 'ATTEMPTS', align: 'right' },
      { title: 'SINCE', align: 'right', min: 6 },
      { title: '' },
    ],
    nodes.map(({ name, state, nodeState, attempts, changedAt, cause }) => [
      name,
      state === 'failed' ? toned('bad', state) : state,
      nodeState,
      String(attempts),
      formatAge(changedAt, io.now()),
      cause ?? '',
    ]),
  )
}

function limits({ maxParallel, maxFailures, expiresSeconds }: CampaignView): string {
  const told = [
    maxParallel === null ? 'all at once' : `${maxParallel} at a time`,
    ...(maxFailures === null ? [] : [`paused after ${count(maxFailures, 'failure')}`]),
    ...(expiresSeconds === null ? [] : [`marks run out after ${duration(expiresSeconds)}`]),
  ]
  return told.join(', ')
}

function duration(seconds: number): string {
  if (seconds % 3600 === 0) return `${seconds / 3600} h`
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`
}

/** Every node of a campaign. */
export async function nodesOf(api: Api, id: string): Promise<CampaignNode[]> {
  const nodes: CampaignNode[] = []
  for (let after: string | undefined; ; ) {
    const query = { limit: 1000, after }
    const page = await api.get<Page<CampaignNode, string>>(`/reinstalls${pathOf(id)}/nodes`, query)
    nodes.push(...page.items)
    if (page.next === null) return nodes
    after = page.next
  }
}

/**
 * Follows a campaign: a line whenever its counts or its state change, until it is over or paused, or a signal comes. Returns it
 * as it was last; with `--json` that one document is all there is.
 */
export async function followCampaign(context: Context, api: Api, id: string): Promise<CampaignView> {
  const { stop, done } = untilInterrupted(context)
  let said = ''
  let last: CampaignView | undefined
  try {
    for (;;) {
      const view = await api.get<CampaignView>(`/reinstalls${pathOf(id)}`).catch((error: unknown) => {
        // It goes on without us, and a server that is started anew answers again.
        if (last === undefined || !isPawlError(error, 'unreachable')) throw error
        return last
      })
      last = view
      const line = `${campaignCounts(view)} ${view.state}`
      if (line !== said && context.flags().json !== true) tell(context, view)
      said = line
      await taken(context, stop)
      if (view.state !== 'running' || stop.aborted) return view
      await sleep(everyMilliseconds, stop)
      if (stop.aborted) return view
    }
  } finally {
    done()
  }
}

function tell({ output, io }: Context, view: CampaignView): void {
  const state = view.state === 'running' ? [] : [': ', campaignState(view)]
  output.line(`${formatClock(io.now().toISOString())} ${campaignCounts(view)}`, ...state)
}
