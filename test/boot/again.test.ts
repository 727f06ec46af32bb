import t from 'tap'
import { eventsOf, startSite } from './helpers/site.ts'

/** Two machines that claim one node, and a machine that is powered off in the middle of its boot. */
const site = await startSite()
t.teardown(() => site.stop())

t.test('of two machines with one secret the first boots and the second is refused', async (t) => {
  const autoexec = await site.addNode('claimed')
  const first = await site.powerOn('claimed', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => first.powerOff())
  await first.waitFor('pawl: stage2: redeemed', 600)
  const copy = { mac: '52:54:00:99:99:99', uuid: '99999999-2222-3333-4444-555555555555', serial: 'SN-COPY' }
  const second = await site.powerOn('claimed', autoexec, copy)
  t.teardown(() => second.powerOff())
  await second.waitFor('Pawl: REFUSED', 600)
  await second.powerOff()
  const [event] = await eventsOf(site, '--node', 'claimed', '--kind', 'refused')
  t.match(event, {
    detail: { cause: 'two-machines', facts: [{ serial: /^SN-(?!COPY)/ }, { serial: 'SN-COPY' }] },
  })
  t.equal(event?.detail.addresses.length, 2, 'both addresses are named')

  await first.waitFor('pawl: stage2: kexec', 600)
  await first.powerOff()
  const before = await site.pawl('node', 'show', 'claimed')
  t.match(before, { state: 'booting', session: { stage: 'stage2' } }, 'powered off in the middle')

  const again = await site.powerOn('claimed', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => again.powerOff())
  await again.waitFor('pawl: ready', 600)
  await again.exited
  const after = await site.pawl('node', 'show', 'claimed')
  t.match(after, { state: 'ready' })
  t.not(after.session.id, before.session.id)
  t.match(await eventsOf(site, '--session', before.session.id, '--kind', 'session-superseded'), [
    { detail: { stage: 'stage2' } },
  ])
})
