import t, { type Test } from 'tap'
import { type Site, startSite } from './helpers/site.ts'

/** The boot as it should go: stock iPXE of two years, one machine each, side by side. */
const site = await startSite()
t.teardown(() => site.stop())

t.test('two machines boot from stock iPXE over HTTPS to ready, at once', async (t) => {
  await Promise.all([bootOne(t, site, 'old', 'trixie'), bootOne(t, site, 'new', 'sid')])
  const verified = await site.pawl('event', 'verify')
  t.match(verified, { ok: true, faults: [] })
  t.notMatch(site.log(), /[A-Za-z0-9_-]{44}/, "no token is in the server's log")
})

async function bootOne(t: Test, site: Site, name: string, suite: 'trixie' | 'sid'): Promise<void> {
  const autoexec = await site.addNode(name)
  const secret = /secret=([\w-]{44})/.exec(autoexec)?.[1] ?? ''
  t.equal(secret.length, 44, `${name}: the site script carries the secret`)
  const machine = await site.powerOn(name, autoexec, { suite, timeoutSeconds: 300 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: ready', 300)
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
  t.notMatch(console, secret, `${name}: the secret is not on the console`)
  t.notMatch(
    console,
    /(?<![A-Za-z0-9_-])(?![0-9a-f]{44})[A-Za-z0-9_-]{44}(?![A-Za-z0-9_-])/,
    `${name}: no token is on the console`,
  )
  const node = await site.pawl('node', 'show', name)
  t.match(node, {
    state: 'ready',
    reinstall: 'none',
    session: { state: 'ready', stage: 'report', sequence: 'boot' },
  })
  const { stages } = await site.pawl('node', 'timeline', name)
  t.same(
    stages.map((stage: { stage: string }) => stage.stage),
    ['stage1', 'stage2', 'stage3', 'join', 'report'],
    `${name}: stages in order`,
  )
  t.ok(stages[0].bytes > 10_000_000 && stages[1].bytes > 20_000_000, `${name}: the timeline has the bytes`)
  const { items } = await site.pawl('event', 'list', '--node', name)
  const opened = items.find((event: { kind: string }) => event.kind === 'session-opened')
  t.equal(
    opened.detail.digestsCheckedByFirmware,
    suite === 'sid',
    `${name}: whether the firmware checks digests`,
  )
  t.comment(
    `${name}: ${stages.map((s: { stage: string; seconds: number }) => `${s.stage} ${s.seconds} s`).join(', ')}`,
  )
}
