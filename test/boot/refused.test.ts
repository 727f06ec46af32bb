import t from 'tap'
import { eventsOf, startSite } from './helpers/site.ts'

/** What a machine that is not served shows, and what the server knows of it. */
const site = await startSite()
t.teardown(() => site.stop())

t.test('an iPXE without our root says that it does not trust the server', async (t) => {
  const autoexec = await site.addNode('noca')
  const machine = await site.powerOn('noca', autoexec, { withoutCa: true })
  t.teardown(() => machine.powerOff())
  t.match(await machine.waitFor(/Pawl: NOT TRUSTED: /), /has a certificate that this iPXE does not trust/)
  await machine.waitFor('Pawl: asking again in 10 s')
  await machine.powerOff()
  const events = await eventsOf(site, '--kind', 'handshake-failed')
  t.ok(events.length >= 1, 'the failed handshake is on record')
  t.match(events[0]?.detail, {
    cause: 'hung-up',
    client: 'iPXE 1.21.1+ (2025)',
    match: 'same',
    origin: 'captured',
    reason: /^an iPXE hung up .* does not trust it$/,
    advice: /give it our root/,
    offered: { versions: ['TLS 1.2'], keyExchange: ['ECDHE-RSA', 'DHE-RSA', 'RSA'], maxFragmentLength: 4096 },
  })
  t.match(await site.pawl('node', 'show', 'noca'), { state: 'registered', session: null })
})

t.test('a revoked secret is refused in readable words, and the cause is on record', async (t) => {
  const autoexec = await site.addNode('wrong')
  await site.pawl('node', 'secret', 'wrong', '--revoke')
  const machine = await site.powerOn('wrong', autoexec)
  t.teardown(() => machine.powerOff())
  await machine.waitFor('Pawl: REFUSED: the server knows why: pawl event list --node wrong')
  await machine.waitFor('Pawl: asking again in 5 s')
  await machine.waitFor('Pawl: asking again in 10 s')
  await machine.powerOff()
  t.comment(
    machine
      .console()
      .split('\n')
      .filter((line) => line.startsWith('Pawl: '))
      .join('\n'),
  )
  const causes = (await eventsOf(site, '--node', 'wrong', '--kind', 'refused')).map(
    (event) => event.detail.cause,
  )
  t.same([...new Set(causes)], ['secret-revoked'])
})

t.test('a disabled node boots by itself once it is enabled', async (t) => {
  const autoexec = await site.addNode('off')
  await site.pawl('node', 'disable', 'off')
  const machine = await site.powerOn('off', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('Pawl: REFUSED')
  await site.pawl('node', 'enable', 'off')
  await machine.waitFor('pawl: stage2: redeemed', 600)
  await machine.powerOff()
  const kinds = (await eventsOf(site, '--node', 'off')).map((event) => event.kind)
  t.same(
    kinds
      .filter((kind) => /refused|enabled|session-opened|stage2/.test(kind))
      .slice(-4)
      .includes('stage2-redeemed'),
    true,
  )
  t.match((await eventsOf(site, '--node', 'off', '--kind', 'refused'))[0], {
    detail: { cause: 'node-disabled' },
  })
})

t.test('a token that was retired meanwhile opens nothing: the agent says so and begins again', async (t) => {
  const autoexec = await site.addNode('late')
  const machine = await site.powerOn('late', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: stage2: started', 600)
  await site.pawl('node', 'disable', 'late')
  const line = await machine.waitFor(/pawl: stage2: error: .*refused to open stage2/, 600)
  t.match(line, /\(403\)/)
  await machine.waitFor(/pawl: stage2: rebooting in \d+ s to begin again at stage 1/)
  await machine.exited
  t.notMatch(machine.console(), 'pawl: stage2: redeemed')
  const causes = (await eventsOf(site, '--node', 'late', '--kind', 'refused')).map(
    (event) => event.detail.cause,
  )
  t.ok(causes.includes('session-ended'), causes.join(', '))
})
