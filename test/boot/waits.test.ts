import t from 'tap'
import { eventsOf, startSite } from './helpers/site.ts'

/** A machine whose stage 1 is answered 503: its connection is closed, and iPXE comes again by itself when it was told to. */
const site = await startSite({ flags: ['--max-stage1-per-hour', '1'] })
t.teardown(() => site.stop())

t.test('iPXE waits as long as Retry-After says, and is served then', async (t) => {
  const autoexec = await site.addNode('eager')
  const first = await site.powerOn('eager', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => first.powerOff())
  await first.waitFor('pawl: stage2: network up', 600)
  await first.powerOff()

  const second = await site.powerOn('eager', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => second.powerOff())
  await second.waitFor('pawl: stage2: redeemed', 600)
  await second.powerOff()
  const events = await eventsOf(site, '--node', 'eager')
  const [held] = events.filter(({ kind }) => kind === 'node-looping')
  t.match(held?.detail, { why: 'too-many', inHour: 1, retryAfterSeconds: 30 })
  const sent = events.filter(({ kind }) => kind === 'too-many-boots')
  t.match(sent, [{ detail: { retryAfterSeconds: 30 } }], 'it asked once, and came back when it should')
  const opened = events.filter(({ kind }) => kind === 'session-opened').map(({ at }) => Date.parse(at))
  t.equal(opened.length, 2)
  t.ok((opened[1] ?? 0) - Date.parse(held?.at ?? '') >= 30_000, 'and not before')
})
