import t from 'tap'
import { send } from '../helpers/robot.ts'
import { applyProfile, eventsOf, profile, type Site, startSite } from './helpers/site.ts'

/** A reinstall that fails three times and is held; then one that works, is served once and cleared. */
const site = await startSite()
t.teardown(() => site.stop())

/** Fails a reinstall over HTTPS as the agent does: redeems stage 2, then reports a final error. */
async function failOnce(site: Site, secret: string): Promise<void> {
  const server = { port: site.bootPort, ca: site.ca }
  const base = '/v1/boot/again'
  const script = await send(server, 'GET', `${base}/stage1.ipxe?secret=${secret}`)
  const handover = await send(
    server,
    'GET',
    `${base}/handover?k=${/handover\?k=([\w-]{44})/.exec(script.text)?.[1]}`,
  )
  const { stage2, report } = JSON.parse(handover.text).tokens
  await send(server, 'POST', `${base}/stage2`, { authorization: `Bearer ${stage2}` })
  const form = { authorization: `Bearer ${report}`, 'content-type': 'application/x-www-form-urlencoded' }
  await send(server, 'POST', `${base}/report`, form, 'message=error: no disk&final=true')
}

t.test('a reinstall that fails three times is held on the console, and an operator lets it go', async (t) => {
  const autoexec = await site.addNode('again')
  const secret = /secret=([\w-]{44})/.exec(autoexec)?.[1] ?? ''
  const { stage3 } = site.artifacts
  const files = [
    '--kernel',
    stage3.kernel,
    '--initramfs',
    stage3.initramfs,
    '--filesystem',
    stage3.filesystem,
  ]
  await site.pawl('image', 'publish', 'pawl-stage3@big', ...files, '--min-memory', '65536')
  await applyProfile(site, profile().replace(/(reinstall:[\s\S]*)pawl-stage3@1/, '$1pawl-stage3@big'))
  await site.pawl('node', 'reinstall', 'again')
  await failOnce(site, secret)
  await failOnce(site, secret)
  const failing = await site.powerOn('again', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => failing.powerOff())
  await failing.waitFor(/pawl: stage2: error: not enough memory/, 600)
  await failing.exited
  t.match(await site.pawl('node', 'show', 'again'), {
    state: 'held',
    reinstall: 'marked',
    reinstallAttempts: 3,
  })

  const machine = await site.powerOn('again', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  t.match(await machine.waitFor(/Pawl: HELD: /), /again failed 3 times/)
  await applyProfile(site, profile())
  await site.pawl('node', 'reinstall', 'again')
  await machine.waitFor('pawl: ready', 600)
  await machine.exited
  t.match(await site.pawl('node', 'show', 'again'), {
    state: 'ready',
    reinstall: 'none',
    reinstallAttempts: 0,
    session: { sequence: 'reinstall', state: 'ready' },
  })
  const kinds = (await eventsOf(site, '--node', 'again')).map((event) => event.kind)
  t.equal(kinds.filter((kind) => kind === 'node-held').length, 1)
  const next = await send(
    { port: site.bootPort, ca: site.ca },
    'GET',
    `/v1/boot/again/stage1.ipxe?secret=${secret}`,
  )
  t.equal(next.status, 200)
  t.match(
    await site.pawl('node', 'show', 'again'),
    { session: { sequence: 'boot' } },
    'the next boot is a normal one',
  )
})
