import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { examineIpxe } from '../../src/ipxe/examine.ts'
import { trustRoot } from '../../src/ipxe/trust.ts'
import { type MediaContent, mediaImage } from '../../src/media/build.ts'
import { eventsOf, pawlLines, type Site, startSite } from './helpers/site.ts'

/** Boot media as `pawl media build` makes them. No firmware here is told our root: what the medium trusts is all there is. */
const site = await startSite()
t.teardown(() => site.stop())

const file = (name: string): string => join(site.dataDir, '..', name)
const network = ['--address', '10.0.2.15/24', '--gateway', '10.0.2.2', '--dns', '10.0.2.3']
const { ipxe } = site.artifacts

/** A node, and a medium of it. */
async function build(name: string, ...flags: string[]): Promise<string> {
  await site.pawl('node', 'add', name, '--profile', 'demo')
  const out = file(`${name}.img`)
  await site.pawl('media', 'build', name, '--out', out, '--ipxe', ipxe.trixie, ...flags)
  return out
}

const inMachine = { withoutCa: true, diskless: true, timeoutSeconds: 700 } as const

t.test('a disk with a static network boots to ready; when its secret is revoked it is refused', async (t) => {
  const medium = await build('stick', '--format', 'usb', ...network)
  const secret = /set pawl-secret (\S{44})\n/.exec(readFileSync(medium, 'latin1'))?.[1] ?? 'none'
  t.not(secret, 'none')
  const machine = await site.powerOn('stick', '', { ...inMachine, medium, mediumAs: 'stick' })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('file:/pawl/secret.ipxe... ok')
  await machine.waitFor(/pawl: stage2: network up: \S+ 10\.0\.2\.15\/24/, 600)
  t.equal(await machine.exited, 'off')
  t.notMatch(machine.console(), secret, 'the secret is not on the console')
  t.notMatch(machine.console(), /udhcpc|DHCP/, 'nobody was asked for an address')
  t.match(await site.pawl('node', 'show', 'stick'), { state: 'ready', session: { stage: 'report' } })
  t.comment(pawlLines(machine))

  await site.pawl('node', 'secret', 'stick', '--revoke')
  const again = await site.powerOn('stick', '', { ...inMachine, medium, mediumAs: 'stick' })
  t.teardown(() => again.powerOff())
  await again.waitFor('Pawl: REFUSED: the server knows why: pawl event list --node stick')
  await again.powerOff()
  t.match((await eventsOf(site, '--node', 'stick', '--kind', 'refused'))[0], {
    detail: { cause: 'secret-revoked' },
  })
})

t.test('a CD boots by UEFI as far as the kernel', async (t) => {
  const medium = await build('cd', '--format', 'iso')
  const machine = await site.powerOn('cd', '', { ...inMachine, medium, mediumAs: 'cd' })
  t.teardown(() => machine.powerOff())
  await machine.waitFor(/Pawl: node cd, boot session/)
  await machine.waitFor(/Linux version|pawl: stage2/, 600)
  await machine.powerOff()
  const [session] = await eventsOf(site, '--node', 'cd', '--kind', 'session-opened')
  t.ok(session, 'its secret proved it')
})

t.test('the medium of another site says in words that it does not trust this server', async (t) => {
  await site.pawl('node', 'add', 'foreign', '--profile', 'demo')
  const parts = contentOf(site, 'ff'.repeat(32))
  const medium = file('foreign.img')
  writeFileSync(medium, mediaImage('usb', parts))
  const machine = await site.powerOn('foreign', '', { ...inMachine, medium })
  t.teardown(() => machine.powerOff())
  t.match(await machine.waitFor(/Pawl: NOT TRUSTED: /), /has a certificate that this iPXE does not trust/)
  await machine.powerOff()
  t.match(await site.pawl('node', 'show', 'foreign'), { state: 'registered', session: null })
})

t.test(
  'a BIOS starts iPXE from an ISO on a stick; a stock build says that it does not trust the server',
  async (t) => {
    const lkrn = file('ipxe.lkrn')
    copyFileSync(join(ipxe.trixie, '../ipxe.lkrn'), lkrn)
    const medium = await build('bios', '--format', 'iso', '--bios', lkrn)
    const machine = await site.powerOn('bios', '', { ...inMachine, firmware: 'bios', medium })
    t.teardown(() => machine.powerOff())
    await machine.waitFor(/Pawl: node bios, server/)
    await machine.waitFor(/Pawl: NOT TRUSTED: /)
    t.notMatch(machine.console(), 'NO SECRET', 'ISOLINUX handed it the secret')
    await machine.powerOff()
  },
)

/** A medium that trusts another root; it is refused before it could show its secret to anybody. */
function contentOf({ artifacts, bootPort }: Site, root: string): MediaContent {
  const bytes = readFileSync(artifacts.ipxe.sid)
  const { arch, version } = examineIpxe(bytes, 'ipxe')
  const publicUrl = `https://10.0.2.2:${bootPort}`
  const siteScript = readFileSync(join(import.meta.dirname, '../golden/autoexec-unknown-retry.ipxe'), 'utf8')
  return {
    node: 'foreign',
    publicUrl,
    siteScript: siteScript.replaceAll('https://boot.example.com:8443', publicUrl),
    secret: 'A'.repeat(44),
    ipxe: { bytes: trustRoot(bytes, 'ipxe', root).bytes, arch, version, root },
  }
}
