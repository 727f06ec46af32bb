import { change, get } from '../api.ts'
import { count } from '../format.ts'
import { apiError } from '../hooks.ts'
import { html, useEffect, useState, type VNode } from '../html.ts'
import type { ChangedChannel, ChannelHistory, ChannelView, PlannedRollout } from '../shapes.ts'
import { Dialog, Fault } from './dialog.ts'

/** What can be done with a channel. */
export type ChannelAction = 'rollout' | 'set' | 'rollback'

/** The words of its button, and of the dialog's. */
export const channelActions: Readonly<Record<ChannelAction, string>> = {
  rollout: 'Roll out',
  set: 'Move now',
  rollback: 'Roll back',
}

interface ChannelDialogProps {
  readonly action: ChannelAction
  readonly channel: ChannelView
  /** The published versions of its image, the newest first. */
  readonly versions: readonly string[]
  readonly onClose: () => void
  readonly onDone: () => void
}

/** A change that the API tried without making it, or why it would not. */
interface Preview {
  readonly planned?: PlannedRollout
  readonly fault?: { readonly message: string; readonly hint: string | undefined }
}

const usualWaves = '1, 10%, 50%, 100%'

/** Why this cannot be done with a channel; undefined where it can. */
export function whyNotChannel(
  action: ChannelAction,
  channel: ChannelView,
  versions: readonly string[],
): string | undefined {
  if (channel.rollout !== null) return 'a rollout is on: see Rollouts'
  if (action === 'rollback') return channel.version === null ? 'it points to nothing yet' : undefined
  if (versions.every((version) => version === channel.version)) return 'there is no other version'
  return action === 'rollout' && channel.version === null ? 'it points to nothing yet: move it' : undefined
}

/** Asks to which version a channel is to go, and in which waves; shows first what that is for how many nodes. */
export function ChannelDialog({ action, channel, versions, onClose, onDone }: ChannelDialogProps): VNode {
  const path = `channels/${channel.channel}`
  const others = versions.filter((version) => version !== channel.version)
  const [version, setVersion] = useState(action === 'rollback' ? '' : (others[0] ?? ''))
  const [waves, setWaves] = useState(usualWaves)
  const [why, setWhy] = useState('')
  const preview = usePreview(channel.channel, version, action === 'rollout' ? waves : '100%')
  useEffect(() => {
    if (action !== 'rollback') return
    get<ChannelHistory>(path).then(
      ({ moves }) => {
        const arrival = moves.find((move) => move.version === channel.version && move.how !== 'rollback')
        setVersion(arrival?.before ?? '')
      },
      () => {}, // what will be asked for says why
    )
  }, [])
  const confirm = async (): Promise<void> => {
    const reason = why.trim() === '' ? {} : { why: why.trim() }
    const { revision } = channel
    if (action === 'rollout')
      await change('rollouts', { body: { ...rolloutOf(channel.channel, version, waves), ...reason } })
    else if (action === 'set')
      await change<ChangedChannel>(path, { method: 'PUT', body: { version, ...reason }, revision })
    else await change<ChangedChannel>(`${path}/rollback`, { body: reason, revision })
    onDone()
  }
  const blocked =
    preview?.planned === undefined ? (preview === undefined ? 'looking…' : 'see above') : undefined
  return html`<${Dialog} title=${`${channelActions[action]}: ${channel.channel}`} action=${channelActions[action]}
      blocked=${action === 'rollout' ? blocked : undefined} onConfirm=${confirm} onClose=${onClose}>
    <p>Now ${channel.version ?? 'nothing'}${action === 'rollback' && version !== '' ? `, then ${version} again` : ''}.</p>
    ${action !== 'rollback' && html`<${Choice} label="To version" value=${version} values=${others} onChoose=${setVersion} />`}
    ${action === 'rollout' && html`<${Field} label="Waves: how many nodes have it after each" value=${waves} onText=${setWaves} />`}
    <${Field} label="Why, for the history" value=${why} onText=${setWhy} />
    <${Effect} action=${action} preview=${preview} />
    ${channel.twoPerson && html`<p>This channel wants a second person: the change waits until somebody else approves it.</p>`}
  </${Dialog}>`
}

function rolloutOf(channel: string, version: string, waves: string): Record<string, unknown> {
  return { channel, version, waves: waves.split(',').map((wave) => wave.trim()) }
}

/** What a rollout would be, asked again when what is asked for has not changed for a moment. */
function usePreview(channel: string, version: string, waves: string): Preview | undefined {
  const [preview, setPreview] = useState<Preview>()
  useEffect(() => {
    setPreview(undefined)
    if (version === '') return undefined
    let isOld = false
    const ask = (): void => {
      change<PlannedRollout>('rollouts', {
        body: { ...rolloutOf(channel, version, waves), dryRun: true },
      }).then(
        (planned) => isOld || setPreview({ planned }),
        (error: unknown) => {
          const { message, hint } = apiError(error)
          if (!isOld) setPreview({ fault: { message, hint } })
        },
      )
    }
    const timer = setTimeout(ask, 300)
    return () => {
      isOld = true
      clearTimeout(timer)
    }
  }, [version, waves])
  return preview
}

function Effect({ action, preview }: { action: ChannelAction; preview: Preview | undefined }): VNode | null {
  const { planned, fault } = preview ?? {}
  // A channel that points nowhere has no rollout to try; the move itself says what is wrong with it.
  if (fault !== undefined)
    return action === 'rollout' ? html`<${Fault} message=${fault.message} hint=${fault.hint} />` : null
  if (planned === undefined) return null
  const { waves } = planned.plan
  const all = (waves.at(-1)?.nodes ?? 0) + planned.outside
  if (action !== 'rollout')
    return html`<p class="effect">${all === 0 ? 'No node follows it.' : `The next boot of ${count(all, 'node')} is of this version. Boots under way keep theirs.`}</p>`
  return html`<div class="effect"><ul>${waves.map(({ written, nodes }, index) => html`<li key=${index}>Wave ${index + 1} (${written}): ${count(nodes, 'node')}</li>`)}</ul>
    <p>Each gets it at its next boot${planned.outside > 0 ? `; ${count(planned.outside, 'other')} when the channel moves` : ''}. It stops by itself when fewer than ${planned.plan.thresholdPercent} % succeed.</p></div>`
}

interface FieldProps {
  readonly label: string
  readonly value: string
  readonly onText: (text: string) => void
}

function Field({ label, value, onText }: FieldProps): VNode {
  return html`<label>${label}
    <input type="text" maxlength="200" value=${value} onInput=${(event: Event) => onText((event.currentTarget as HTMLInputElement).value)} /></label>`
}

interface ChoiceProps {
  readonly label: string
  readonly value: string
  readonly values: readonly string[]
  readonly onChoose: (value: string) => void
}

function Choice({ label, value, values, onChoose }: ChoiceProps): VNode {
  return html`<label>${label}
    <select value=${value} onChange=${(event: Event) => onChoose((event.currentTarget as HTMLSelectElement).value)}>
      ${values.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
    </select></label>`
}
