import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { applyProfile, eventsOf, pawlLines, profile, startSite } from './helpers/site.ts'

/**
 * A client certificate as evidence beside the secret: stock iPXE has none, hands the one on its medium to the minimal Linux, and
 * from there on it is shown with every token. Revoked, it opens nothing at the next boot, and the console says so.
 */
const site = await startSite()
t.teardown(() => site.stop())

t.test(
  'a machine boots to ready with its secret and its certificate, and not once that is revoked',
  async (t) => {
    await applyProfile(site, `${profile()}evidence: [secret, certificate]\n`)
    const autoexec = await site.addNode('sealed')
    const file = join(site.dataDir, '../client.pem')
    const { fingerprint } = await site.pawl('node', 'certificate', 'issue', 'sealed', '--out', file)
    const pem = await readFile(file, 'utf8')
    const files = { 'pawl/client.pem': pem }
    const machine = await site.powerOn('sealed', autoexec, { files, timeoutSeconds: 700 })
    t.teardown(() => machine.powerOff())
    await machine.waitFor('pawl: ready', 600)
    await machine.exited
    t.comment(pawlLines(machine))
    for (const marker of [
      'pawl: stage2: a client certificate is there',
      'pawl: stage3: a client certificate is there',
      'pawl: stage3: filesystem verified',
      'pawl: join: script done',
    ])
      t.ok(machine.console().includes(marker), `the console has "${marker}"`)
    t.notMatch(machine.console(), 'PRIVATE KEY', 'the key is not on the console')
    t.match(await site.pawl('node', 'show', 'sealed'), { state: 'ready', session: { state: 'ready' } })
    t.same(await eventsOf(site, '--node', 'sealed', '--kind', 'refused'), [], 'nothing was refused')
    t.match(await site.pawl('node', 'certificate', 'list', 'sealed'), {
      items: [{ fingerprint, lastUsedFrom: '127.0.0.1' }],
    })

    await site.pawl('node', 'certificate', 'revoke', 'sealed', fingerprint)
    const again = await site.powerOn('sealed', autoexec, { files, timeoutSeconds: 700 })
    t.teardown(() => again.powerOff())
    const line = await again.waitFor(/pawl: stage2: error: .*refused to open stage2/, 600)
    t.match(line, /\(403\)/)
    t.match(await again.waitFor(/pawl: stage2: hint: /), /the certificate was revoked or has expired/)
    await again.powerOff()
    const causes = (await eventsOf(site, '--node', 'sealed', '--kind', 'refused')).map(
      ({ detail }) => detail.cause,
    )
    t.equal(causes[0], 'certificate-revoked')
  },
)
