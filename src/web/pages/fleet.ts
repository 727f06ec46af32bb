import { type NodeAction, nodeActions, whyNotMay } from '../actions.ts'
import { age, count } from '../format.ts'
import { useFleet, useNow } from '../hooks.ts'
import { html, useEffect, useMemo, useRef, useState, type VNode } from '../html.ts'
import { Badge } from '../parts/badge.ts'
import { Fault } from '../parts/dialog.ts'
import { type Column, Grid, type Sort, sorted } from '../parts/grid.ts'
import { NodeDialog } from '../parts/node-dialog.ts'
import { go, hrefOf, type Place } from '../router.ts'
import type { OverviewNode, Whoami } from '../shapes.ts'

const stateOrder = ['failed', 'held', 'booting', 'registered', 'ready', 'disabled'] as const

/** The whole fleet: how many are in which state, and each of them, found by typing. */
export function FleetPage({ place, who }: { place: Place; who: Whoami }): VNode {
  const fleet = useFleet()
  const now = useNow(5000)
  const state = place.query.get('state') ?? ''
  const search = place.query.get('q') ?? ''
  const [sort, setSort] = useState<Sort>({ key: 'name', descending: false })
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set())
  // The nodes as they were chosen: while somebody reads what will be done, others may come to fit the filter.
  const [asking, setAsking] = useState<{ action: NodeAction; names: readonly string[] }>()
  const columns = useMemo(() => columnsAt(now), [now])
  const all = useMemo(() => [...fleet.nodes.values()], [fleet.nodes])
  const found = useMemo(() => all.filter(matcher(search)), [all, search])
  const rows = useMemo(
    () =>
      sorted(
        found.filter((node) => state === '' || marksOf(node).includes(state)),
        columns,
        sort,
      ),
    [found, state, sort, columns],
  )
  const chosen = rows.filter(({ name }) => selected.has(name))
  const show = (query: Readonly<Record<string, string>>): void =>
    go(hrefOf('fleet', undefined, { state, q: search, ...query }))
  return html`<section class="page fleet">
    <header>
      <h1>Fleet</h1>
      <${Search} value=${search} onSearch=${(q: string) => show({ q })} />
    </header>
    ${fleet.error && html`<${Fault} message=${fleet.error} hint="what is shown may be old; it is asked again" />`}
    <${Counts} nodes=${found} state=${state} onState=${(next: string) => show({ state: next })} />
    ${fleet.more && html`<p class="fault">There are more nodes than one page takes: these are the first by name. Use pawl node list.</p>`}
    <${Actions} who=${who} chosen=${chosen} onAsk=${(action: NodeAction) => setAsking({ action, names: chosen.map(({ name }) => name) })} />
    <${Grid} label="Nodes" rows=${rows} columns=${columns} keyOf=${(node: OverviewNode) => node.name}
      onOpen=${(node: OverviewNode) => go(hrefOf('node', node.name))} selected=${selected} onSelect=${setSelected}
      sort=${sort} onSort=${setSort} empty=${emptyText(fleet.loading, all.length)} />
    ${asking && html`<${NodeDialog} action=${asking.action} nodes=${asking.names} onClose=${() => setAsking(undefined)} onDone=${() => setSelected(new Set())} />`}
  </section>`
}

/** Everything by which a node is counted and found: its state, and what else is to be seen beside it. */
function marksOf({ state, reinstall, pace, loopingSince }: OverviewNode): string[] {
  return [
    state,
    ...(reinstall === 'none' ? [] : [reinstall]),
    ...(pace === null || pace === 'usual' ? [] : [pace]),
    ...(loopingSince === null ? [] : ['looping']),
  ]
}

function emptyText(loading: boolean, all: number): string {
  if (loading) return 'Loading the fleet…'
  return all === 0 ? 'No node is registered yet: pawl node add NAME --profile P' : 'No node is like that.'
}

/** Words must all be in the name, the profile, the cause or the labels; `key=value` means a label. */
function matcher(search: string): (node: OverviewNode) => boolean {
  const words = search
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '')
  return (node) => {
    const labels = Object.entries(node.labels).map(([key, value]) => `${key}=${value}`)
    const text = [node.name, node.profile ?? '', node.failureCause ?? '', node.stage ?? '', ...labels]
      .join(' ')
      .toLowerCase()
    return words.every((word) => text.includes(word))
  }
}

function Search({ value, onSearch }: { value: string; onSearch: (text: string) => void }): VNode {
  const input = useRef<HTMLInputElement>(null)
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const target = event.target as HTMLElement
      if (event.key !== '/' || event.ctrlKey || event.metaKey || target.matches('input, textarea, select'))
        return
      event.preventDefault()
      input.current?.focus()
    }
    window.addEventListener('keydown', onKey)
    return () => window.removeEventListener('keydown', onKey)
  }, [])
  return html`<input ref=${input} type="search" class="search" placeholder="Name, profile, label=value …  ( / )" aria-label="Search nodes"
    value=${value} onInput=${(event: Event) => onSearch((event.currentTarget as HTMLInputElement).value)} />`
}

function Counts({
  nodes,
  state,
  onState,
}: {
  nodes: readonly OverviewNode[]
  state: string
  onState: (state: string) => void
}): VNode {
  const counts = new Map<string, number>()
  for (const node of nodes) for (const mark of marksOf(node)) counts.set(mark, (counts.get(mark) ?? 0) + 1)
  const chip = (key: string, words: string, number: number): VNode =>
    html`<button type="button" key=${key} class="chip" aria-pressed=${state === key} onClick=${() => onState(state === key ? '' : key)}>
      <b>${number.toLocaleString('en')}</b> ${key === '' ? words : html`<${Badge} state=${words} />`}
    </button>`
  return html`<p class="chips" aria-label="Nodes by state">
    ${chip('', 'all', nodes.length)}
    ${stateOrder.map((one) => chip(one, one, counts.get(one) ?? 0))}
    ${['slow', 'stuck', 'looping', 'marked', 'serving'].filter((one) => counts.has(one) || one === state).map((one) => chip(one, one, counts.get(one) ?? 0))}
  </p>`
}

function Actions({
  who,
  chosen,
  onAsk,
}: {
  who: Whoami
  chosen: readonly OverviewNode[]
  onAsk: (action: NodeAction) => void
}): VNode {
  const notMay = whyNotMay(who)
  const why = (action: NodeAction): string | undefined => {
    if (chosen.length === 0) return 'choose nodes in the list first'
    if (notMay !== undefined) return notMay
    const first = chosen.find((node) => action.whyNot(node) !== undefined)
    return first === undefined ? undefined : `${first.name}: ${action.whyNot(first)}`
  }
  return html`<div class="actions" role="group" aria-label="What to do with the chosen nodes">
    <span class="chosen">${chosen.length === 0 ? 'No node chosen' : `${count(chosen.length, 'node')} chosen`}</span>
    ${nodeActions.map((action) => {
      const reason = why(action)
      return html`<button type="button" key=${action.name} disabled=${reason !== undefined} title=${reason ?? ''} onClick=${() => onAsk(action)}>${action.words}</button>`
    })}
    <span class="why" role="note">${chosen.length > 0 ? [...new Set(nodeActions.map(why))].filter((reason) => reason !== undefined).slice(0, 1) : ''}</span>
  </div>`
}

function columnsAt(now: number): Column<OverviewNode>[] {
  return [
    {
      key: 'name',
      title: 'Name',
      cell: ({ name }) => html`<a href=${hrefOf('node', name)}>${name}</a>`,
      sortBy: ({ name }) => name,
    },
    {
      key: 'state',
      title: 'State',
      cell: (node) => marksOf(node).map((mark) => html`<${Badge} key=${mark} state=${mark} /> `),
      sortBy: ({ state }) => (stateOrder as readonly string[]).indexOf(state),
    },
    {
      key: 'stage',
      title: 'Stage',
      cell: ({ stage, state }) => (state === 'booting' ? stage : ''),
      sortBy: ({ stage }) => stage ?? '',
    },
    {
      key: 'since',
      title: 'Last boot',
      cell: ({ startedAt }) => (startedAt === null ? 'never' : `${age(startedAt, now)} ago`),
      sortBy: ({ startedAt }) => startedAt ?? '',
      className: 'number',
    },
    {
      key: 'profile',
      title: 'Profile',
      cell: ({ profile }) => profile ?? '',
      sortBy: ({ profile }) => profile ?? '',
    },
    {
      key: 'cause',
      title: 'Cause',
      cell: ({ failureCause }) => failureCause ?? '',
      sortBy: ({ failureCause }) => failureCause ?? '',
    },
    {
      key: 'labels',
      title: 'Labels',
      cell: ({ labels }) =>
        Object.entries(labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(' '),
      className: 'labels',
    },
  ]
}
