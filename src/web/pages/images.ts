import { whyNotMove } from '../actions.ts'
import { age, bytes, count } from '../format.ts'
import { useApi, useNow } from '../hooks.ts'
import { html, useState, type VNode } from '../html.ts'
import { type ChannelAction, ChannelDialog, channelActions, whyNotChannel } from '../parts/channel-dialog.ts'
import { Fault } from '../parts/dialog.ts'
import { Scroll } from '../parts/scroll.ts'
import type { ChannelView, EventView, ImageUse, ImageView, Page, Whoami } from '../shapes.ts'

/** Images and channels: what there is, which version a channel points to, and who runs what. */
export function ImagesPage({ who }: { who: Whoami }): VNode {
  const now = useNow(10_000)
  const [asking, setAsking] = useState<{ action: ChannelAction; channel: ChannelView }>()
  const concerns = ({ kind }: EventView): boolean => /^(image|channel|rollout)/.test(kind)
  const images = useApi<Page<ImageView, string>>('images?limit=1000', concerns)
  const channels = useApi<Page<ChannelView, string>>('channels?limit=1000', concerns)
  const uses = useApi<{ items: readonly ImageUse[] }>('image-uses')
  const usesOf = (ref: string): ImageUse | undefined => uses.value?.items.find((use) => use.image === ref)
  /** The newest first: that is the one to roll out. */
  const versionsOf = ({ channel }: ChannelView): string[] => {
    const name = channel.slice(0, channel.lastIndexOf('/'))
    const own = (images.value?.items ?? []).filter(({ ref }) => ref.startsWith(`${name}@`))
    const newest = own.toSorted((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
    return newest.map(({ ref }) => ref.slice(name.length + 1))
  }
  const fault = images.error ?? channels.error ?? uses.error
  return html`<section class="page">
    <header><h1>Images and channels</h1></header>
    ${fault && html`<${Fault} message=${fault.message} hint=${fault.hint} />`}
    <h2>Channels</h2>
    ${channels.value?.items.length === 0 && html`<p class="empty">No channel yet: pawl channel set NAME/CHANNEL VERSION</p>`}
    ${
      (channels.value?.items.length ?? 0) > 0 &&
      html`<${Scroll} label="Channels"><table><thead><tr><th>Channel</th><th>Version</th><th>Moved</th><th>Rollout</th><th>Rules</th><th>Change</th></tr></thead>
      <tbody>${channels.value?.items.map(
        (channel) => html`<tr key=${channel.channel}>
        <td>${channel.channel}</td><td>${channel.version ?? 'none'}</td><td class="number">${age(channel.updatedAt, now)} ago</td>
        <td>${channel.rollout === null ? '' : html`<a href="#/rollouts">${channel.rollout}</a>`}</td>
        <td>${[channel.twoPerson ? 'two persons' : '', channel.requireTest ? 'tested only' : ''].filter((rule) => rule !== '').join(', ')}</td>
        <td><${Actions} who=${who} channel=${channel} versions=${versionsOf(channel)} onAsk=${(action: ChannelAction) => setAsking({ action, channel })} /></td></tr>`,
      )}</tbody></table></${Scroll}>`
    }
    <h2>Images</h2>
    ${images.value?.items.length === 0 && html`<p class="empty">No image yet: pawl image publish NAME@VERSION …</p>`}
    ${
      (images.value?.items.length ?? 0) > 0 &&
      html`<${Scroll} label="Images"><table><thead><tr><th>Image</th><th>Size</th><th>Published</th><th>By</th><th>Signed by</th><th>Run by</th></tr></thead>
      <tbody>${images.value?.items.map((image) => {
        const { ref } = image
        const use = usesOf(ref)
        return html`<tr key=${ref}><td>${ref}</td>
          <td class="number">${bytes(image.manifest.artifacts.reduce((sum, { size }) => sum + size, 0))}</td>
          <td class="number">${age(image.createdAt, now)} ago</td><td>${image.createdBy.replace(/^operator:/, '')}</td>
          <td>${image.signatures.map(({ publisher }) => publisher).join(', ')}</td>
          <td class="number">${use === undefined ? 'nobody' : `${count(use.nodes, 'node')}, ${use.ready} ready`}</td></tr>`
      })}</tbody></table></${Scroll}>`
    }
    ${asking && html`<${ChannelDialog} ...${asking} versions=${versionsOf(asking.channel)} onClose=${() => setAsking(undefined)} onDone=${channels.again} />`}
  </section>`
}

interface ActionsProps {
  readonly who: Whoami
  readonly channel: ChannelView
  readonly versions: readonly string[]
  readonly onAsk: (action: ChannelAction) => void
}

function Actions({ who, channel, versions, onAsk }: ActionsProps): VNode {
  const notMay = whyNotMove(who)
  return html`<div class="actions" role="group" aria-label=${`Change ${channel.channel}`}>
    ${(Object.keys(channelActions) as ChannelAction[]).map((action) => {
      const why = notMay ?? whyNotChannel(action, channel, versions)
      return html`<button type="button" key=${action} disabled=${why !== undefined} title=${why ?? ''} onClick=${() => onAsk(action)}>${channelActions[action]}</button>`
    })}
  </div>`
}
