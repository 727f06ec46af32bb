import t from 'tap'
import type { LeavingView } from '../../src/cli/answers.ts'
import type { Api } from '../../src/cli/api.ts'
import { leavingFields } from '../../src/cli/commands/node-leave.ts'
import { describeEvent, problemKinds } from '../../src/cli/event-words.ts'

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
  t.ok(problemKinds.has('leave-failed'))
})

t.test('what is left to take back stays on node show, and what is over does not', async (t) => {
  const endedAt = '2026-11-21T06:00:00.000Z'
  const cases: readonly (readonly [Partial<LeavingView>, readonly string[]])[] = [
    [{ state: 'draining', endedAt: null }, ['leaving']],
    [{ state: 'failed', endedAt, cordoned: false }, ['leaving']],
    [
      { state: 'cancelled', endedAt, cordoned: true, cause: 'it may still be unschedulable' },
      ['leaving', ''],
    ],
    [{ state: 'cancelled', endedAt, cordoned: false }, []],
    [{ state: 'done', endedAt, cordoned: true }, []],
  ]
  for (const [view, names] of cases) {
    const whole = { hook: 'kubernetes', waitsFor: null, cause: null, ...view }
    const api = { get: async () => whole } as unknown as Api // of an API, what is asked here
    const fields = await leavingFields(api, 'node1')
    t.same(
      fields.map(({ name }) => name),
      names,
      `${view.state}`,
    )
  }
})
