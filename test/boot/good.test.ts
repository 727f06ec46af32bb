import t, { type Test } from 'tap'
import { answersTook, eventsOf, openTokens, type Site, startSite, tokenLike } from './helpers/site.ts'

/** The boot as it should go: stock iPXE of two years, one machine each, side by side. */
const site = await startSite({ machines: 2 })
t.teardown(() => site.stop())

t.test('two machines boot from stock iPXE over HTTPS to ready, at once', async (t) => {
  await Promise.all([bootOne(t, site, 'old', 'trixie'), bootOne(t, site, 'new', 'sid')])
  const verified = await site.pawl('event', 'verify')
  t.match(verified, { ok: true, faults: [] })
  t.notMatch(site.log(), tokenLike, "no token is in the server's log")
  t.notMatch(JSON.stringify(await site.pawl('event', 'list')), tokenLike, 'nor in its events')
})

async function bootOne(t: Test, site: Site, name: string, suite: 'trixie' | 'sid'): Promise<void> {
  const autoexec = await site.addNode(name)
  const secret = /secret=([\w-]{44})/.exec(autoexec)?.[1] ?? ''
  t.equal(secret.length, 44, `${name}: the site script carries the secret`)
  const machine = await site.powerOn(name, autoexec, { suite, timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: ready', 600)
  await machine.exited
  const console = machine.console()
  for (const marker of [
    'Pawl: node ',
    'pawl: stage2: started',
    'pawl: stage2: kernel verified',
    'pawl: stage2: initramfs verified',
    'pawl: stage2: kexec',
    'pawl: stage3: filesystem verified',
    'pawl: stage3: unprivileged access to the boot listener is blocked',
    'pawl: join: script done',
  ]) {
    t.ok(console.includes(marker), `${name}: console has "${marker}"`)
  }
  // A console breaks long lines: the secret must not be there in two halves either.
  t.notOk(console.replace(/\s/g, '').includes(secret), `${name}: the secret is not on the console`)
  t.notMatch(console, tokenLike, `${name}: no token is on the console`)
  const node = await site.pawl('node', 'show', name)
  t.match(node, {
    state: 'ready',
    reinstall: 'none',
    session: { state: 'ready', stage: 'report', sequence: 'boot' },
  })
  t.same(openTokens(site, node.session.id), [], `${name}: every token is spent`)
  const { stages } = await site.pawl('node', 'timeline', name)
  t.same(
    stages.map((stage: { stage: string }) => stage.stage),
    ['stage1', 'stage2', 'stage3', 'join', 'report'],
    `${name}: stages in order`,
  )
  t.ok(stages[0].bytes > 10_000_000 && stages[1].bytes > 20_000_000, `${name}: the timeline has the bytes`)
  for (const stage of stages.slice(0, -1)) t.ok(stage.seconds > 0, `${name}: ${stage.stage} took its time`)
  // The emulated processor has no instructions for AES.
  t.match(stages[1].client.tls.cipher, /CHACHA20/, `${name}: the images come by the cipher that is fast here`)
  const events = await eventsOf(site, '--node', name)
  t.same(
    events.map((event) => event.kind),
    [
      'node-added',
      'secret-issued',
      'session-opened',
      'handover-opened',
      'stage2-redeemed',
      'stage3-redeemed',
      'join-redeemed',
      'session-ready',
    ],
    `${name}: nothing else happened`,
  )
  t.equal(events[2]?.detail.digestsCheckedByFirmware, suite === 'sid', `${name}: who checks the digests`)
  t.comment(
    `${name}: ${stages.map((s: { stage: string; seconds: number }) => `${s.stage} ${s.seconds} s`).join(', ')}`,
  )
  t.comment(`${name}: ${answersTook(stages)}`)
}
