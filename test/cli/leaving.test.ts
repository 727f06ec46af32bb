import t from 'tap'
import type { LeavingView } from '../../src/cli/answers.ts'
import { leavingFields } from '../../src/cli/commands/node-leave.ts'
import { describeEvent } from '../../src/cli/event-words.ts'
import { toned } from '../../src/cli/text.ts'

const eventOf = (kind: string, detail: object): Parameters<typeof describeEvent>[0] => ({
  ...{
    id: 1,
    chain: 'node1',
    seq: 1,
    hash: '',
    at: '2026-11-21T06:00:00.000Z',
    node: 'node1',
    session: null,
    source: null,
  },
  ...{ actor: 'server', kind, detail: { ...detail } },
})

t.test('events of a node that leaves its cluster say what was done and what is left to do', async (t) => {
  const deadline = '2026-11-21T06:15:00.000Z'
  const cause = 'the reboot hook answered 400'
  for (const [kind, detail, said] of [
    [
      'leave-started',
      { hook: 'kubernetes', reboot: 'webhook', deadline },
      `it began to leave its cluster, drained by us until ${deadline} at most; its hook reboots it then`,
    ],
    [
      'leave-started',
      { hook: 'webhook', reboot: 'operator', deadline },
      `it began to leave its cluster, asked of its hook until ${deadline} at most; to be rebooted by an operator then`,
    ],
    ['leave-drained', { seconds: 7 }, 'it has left its cluster after 7 s, and was marked for reinstall'],
    ['leave-completed', { reboot: 'operator' }, 'it has left its cluster: reboot it now'],
    ['leave-completed', { reboot: 'webhook' }, 'it has left its cluster, and its hook has rebooted it'],
    [
      'leave-failed',
      { before: 'draining', cause: 'it took too long', cordoned: true },
      'it did not leave its cluster: it took too long; nothing is scheduled to it',
    ],
    [
      'leave-failed',
      { before: 'rebooting', cause, cordoned: false },
      `it is marked, and was not rebooted: ${cause}`,
    ],
    [
      'leave-failed',
      { before: 'cancelling', cause: 'no', cordoned: true },
      'it was not made schedulable again: no; nothing is scheduled to it',
    ],
    ['leave-cancelled', { markTaken: false, uncordons: false }, 'it stays in its cluster'],
    [
      'leave-cancelled',
      { markTaken: true, uncordons: true },
      'it stays in its cluster; its mark was taken back; it is being made schedulable again',
    ],
    ['cluster-node-removed', { found: true }, 'its object was removed from its cluster'],
    ['cluster-node-removed', { found: false }, 'its cluster had no object of it to be removed'],
  ] as const)
    t.equal(describeEvent(eventOf(kind, detail)), said)
})

t.test('how a node leaves stands on node show, with what it waits for or why it did not', (t) => {
  const view = { hook: 'kubernetes', waitsFor: null, cause: null, state: 'draining' } as const
  const cases: readonly (readonly [Partial<LeavingView> | null, readonly unknown[]])[] = [
    [null, []],
    [view, ['draining, by kubernetes']],
    [{ ...view, waitsFor: 'pod a/b' }, ['draining, by kubernetes', 'waits for pod a/b']],
    [
      { ...view, state: 'cancelled', cause: 'it may still be unschedulable' },
      ['cancelled', toned('bad', 'it may still be unschedulable')],
    ],
  ]
  for (const [leaving, said] of cases) {
    const fields = leavingFields({ leaving: leaving as LeavingView | null }) // of a view, what is asked here
    t.same(
      fields.map(({ value }) =>
        typeof value === 'object' && 'tone' in value && value.tone === 'plain' ? value.text : value,
      ),
      said,
    )
  }
  t.end()
})
