import t from 'tap'
import { freePort } from './helpers/process.ts'
import { eventsOf, startSite } from './helpers/site.ts'
import { startTcpProxy } from './helpers/tcp-proxy.ts'

/** What a boot survives without a power cycle: answers lost on the way, and a server that is killed. */
const bootPort = await freePort()
const proxy = await startTcpProxy(bootPort)
t.teardown(() => proxy.close())
const site = await startSite({ bootPort, publicPort: proxy.port })
t.teardown(() => site.stop())

t.test('lost answers are asked for again under their keys; a killed server costs a pause', async (t) => {
  const autoexec = await site.addNode('lost')
  const machine = await site.powerOn('lost', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: stage2: network up')
  await proxy.loseNextAnswer()
  await machine.waitFor('pawl: stage2: redeemed', 600)
  await machine.waitFor('pawl: stage3: filesystem: downloading', 600)
  await site.kill()
  await site.start()
  await machine.waitFor('pawl: stage3: filesystem verified', 600)
  await machine.waitFor('pawl: stage3: unprivileged access to the boot listener is blocked', 600)
  await proxy.loseNextAnswer()
  await machine.waitFor('pawl: ready', 600)
  await machine.exited
  t.match(await site.pawl('node', 'show', 'lost'), { state: 'ready' })
  const kinds = (await eventsOf(site, '--node', 'lost')).map((event) => event.kind)
  const count = (kind: string): number => kinds.filter((other) => other === kind).length
  t.ok(count('answer-repeated') >= 1, `${count('answer-repeated')} answers were given again`)
  for (const kind of [
    'session-opened',
    'stage2-redeemed',
    'stage3-redeemed',
    'join-redeemed',
    'session-ready',
  ]) {
    t.equal(count(kind), 1, kind)
  }
  t.match(await site.pawl('event', 'verify'), { ok: true })
})
