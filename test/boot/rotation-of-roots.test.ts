import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort, run } from './helpers/process.ts'
import { eventsOf, pawlLines, type Site, startSite } from './helpers/site.ts'

/**
 * Two machines side by side while the root is rotated: the medium of one was made before and knows the old root alone, that of
 * the other after and knows the new one alone. Nothing is changed on the first.
 */
const flags: string[] = []
const site = await startSite({ flags, machines: 2 })
t.teardown(() => site.stop())

/** A medium whose iPXE trusts one root by its fingerprint, and nobody else: no firmware is told of any. */
async function build(name: string): Promise<string> {
  await site.pawl('node', 'add', name, '--profile', 'demo')
  const out = join(site.dataDir, '..', `${name}.img`)
  const ipxe = site.artifacts.ipxe[name === 'newer' ? 'sid' : 'trixie']
  await site.pawl('media', 'build', name, '--format', 'usb', '--out', out, '--ipxe', ipxe)
  return out
}

async function bootOne(t: Test, site: Site, name: string, medium: string, url: string): Promise<void> {
  const options = { withoutCa: true, diskless: true, medium, timeoutSeconds: 1200 } as const
  const machine = await site.powerOn(name, '', options)
  t.teardown(() => machine.powerOff())
  await machine.waitFor(`Pawl: node ${name}, server ${url}`, 600)
  await machine.waitFor('pawl: ready', 1200)
  await machine.exited
  t.comment(pawlLines(machine))
  t.match(await site.pawl('node', 'show', name), {
    state: 'ready',
    session: { state: 'ready', stage: 'report' },
  })
}

t.test('a machine that knows the old root boots as before, beside one that knows the new', async (t) => {
  const before = await build('older')
  const oldUrl = `https://10.0.2.2:${site.bootPort}`
  const { from, to } = await site.pawl('root', 'rotate')
  const port = await freePort()
  const newUrl = `https://10.0.2.2:${port}`
  const file = join(site.dataDir, 'pawl.yaml')
  const settings = readFileSync(file, 'utf8').replace(/publicUrl: .*/, `publicUrl: ${newUrl}`)
  writeFileSync(file, `${settings}\noldPublicUrl: ${oldUrl}\noldBootListen: "127.0.0.1:${site.bootPort}"\n`, {
    mode: 0o600,
  })
  flags.push('--boot-listen', `127.0.0.1:${port}`) // the last one counts
  await site.kill()
  await site.start()
  const after = await build('newer')
  await Promise.all([bootOne(t, site, 'older', before, oldUrl), bootOne(t, site, 'newer', after, newUrl)])
  t.match(await site.pawl('root', 'show'), {
    rotation: 'served',
    entries: [
      { name: 'main', publicUrl: newUrl, root: to, nodes: 1 },
      { name: 'old', publicUrl: oldUrl, root: from, nodes: 1 },
    ],
    users: [{ node: 'older', otherAt: null }],
  })
  await t.rejects(
    run(site.command[0], [...site.command.slice(1), 'root', 'cut-over', '--yes', '--data', site.dataDir]),
    { message: /1 node booted by the old root in the last 30 days: older/ },
    'it is not taken away from the machine that needs it',
  )
  t.same(await eventsOf(site, '--kind', 'handshake-failed'), [], 'no handshake failed')
})
