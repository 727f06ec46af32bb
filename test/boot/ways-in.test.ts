import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as second } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Machine } from '../../src/cli/image-test/machine.ts'
import { type Dnsmasq, networkAbsent, startNetwork, type TestNetwork } from './helpers/network.ts'
import { run } from './helpers/process.ts'
import {
  applyProfile,
  eventsOf,
  factsOf,
  type PowerOnOptions,
  profile,
  type Site,
  startSite,
} from './helpers/site.ts'

/**
 * Every way from firmware to Pawl that a network offers, in a network of the test's own: Pawl's TFTP and HTTPS, and dnsmasq as
 * `pawl dhcp config` sets it up. No machine has a disk, and no media: a node is proved by the address that DHCP gives its MAC.
 */

/** OVMF tries PXE first. */
const noPxe = {
  'opt/org.tianocore/IPv4PXESupport': 'no',
  'opt/org.tianocore/IPv6PXESupport': 'no',
}

/** The ROM that QEMU's package brings: iPXE of 2019, as in the NICs of that time. It drives the modern device only. */
const oldNic: PowerOnOptions = {
  firmware: 'bios',
  nic: 'virtio-net-pci,disable-legacy=on',
  nicRom: '/usr/lib/ipxe/qemu/efi-virtio.rom',
}

const absent = networkAbsent()
if (absent !== undefined) {
  t.test('ways in', { skip: absent }, () => undefined)
} else {
  const network = await startNetwork()
  t.teardown(() => network.stop())
  const site = await startSite({ network, flags: ['--tftp-listen', '10.93.0.1:69'] })
  t.teardown(() => site.stop())
  await addBinaries(site)
  await applyProfile(site, `${profile()}evidence: [address]\nacceptAddressOnly: true\n`)
  await entries({ network, site })
}

interface Place {
  readonly network: TestNetwork
  readonly site: Site
}

/** What firmware loads, from the cache of Debian's builds: TFTP reads the folder when the server starts. */
async function addBinaries(site: Site): Promise<void> {
  const folder = dirname(site.artifacts.ipxe.sid)
  await site.pawl('ipxe', 'add', site.artifacts.ipxe.sid, '--name', 'ipxe-x86_64.efi')
  await site.pawl('ipxe', 'trust', 'ipxe-x86_64.efi')
  await site.pawl('ipxe', 'add', join(folder, 'undionly.kpxe'), '--name', 'undionly.kpxe')
  await site.kill()
  await site.start()
}

/** dnsmasq as Pawl wrote it, and what the test needs beside: the nodes' addresses, and a log. */
async function dhcp(
  { network, site }: Place,
  nodes: readonly string[],
  flags: readonly string[],
  more: readonly string[] = [],
): Promise<Dnsmasq> {
  const { text } = await site.pawl(
    ...['dhcp', 'config', '--for', 'dnsmasq', '--interface', network.bridge, '--tftp-server', '10.93.0.1'],
    ...flags,
  )
  const hosts = nodes.map((name, i) => `dhcp-host=${factsOf(name).mac},10.93.0.${11 + i}`)
  return network.dnsmasq([text, 'log-dhcp', 'no-ping', ...hosts, ...more, ''].join('\n'))
}

/** A machine with no disk on a cable of the network, and the seconds since its power-on. */
async function powerOn(
  t: Test,
  { network, site }: Place,
  name: string,
  options: PowerOnOptions,
): Promise<{ machine: Machine; seconds: () => string }> {
  const began = performance.now()
  const more = { timeoutSeconds: 700, ...options }
  const machine = await site.powerOn(name, '', { diskless: true, tap: await network.tap(), ...more })
  t.teardown(() => machine.powerOff())
  return { machine, seconds: () => `${((performance.now() - began) / 1000).toFixed(1)} s` }
}

/** Says what a boot did, and how long after power-on. */
async function follow(
  t: Test,
  { machine, seconds }: { machine: Machine; seconds: () => string },
  marks: readonly (string | RegExp)[],
): Promise<void> {
  for (const mark of marks) {
    await machine.waitFor(mark, 600)
    t.comment(`${machine.name}: ${String(mark)} after ${seconds()}`)
  }
}

async function entries(place: Place): Promise<void> {
  const { network, site } = place
  const range = ['--range', '10.93.0.50-10.93.0.99/24', '--router', '10.93.0.1', '--boot-url', bootUrl(site)]
  const nodes = ['pxe', 'https', 'bios', 'proxied']
  for (const [i, name] of nodes.entries()) {
    const { mac } = factsOf(name)
    await site.pawl('node', 'add', name, '--profile', 'demo', '--mac', mac, '--address', `10.93.0.${11 + i}`)
  }

  await t.test('UEFI by PXE: our TFTP, an iPXE made to trust our root, to ready', async (t) => {
    const server = await dhcp(place, nodes, range)
    t.teardown(() => server.stop())
    const boot = await powerOn(t, place, 'pxe', { withoutCa: true })
    await follow(t, boot, [
      'iPXE initialising devices',
      'Pawl: node pxe',
      'pawl: stage2: started',
      'pawl: ready',
    ])
    await boot.machine.exited
    await isReady(t, site, 'pxe')
    t.match(server.log(), /client-arch|tags: .*efi-x64/, 'dnsmasq told it by its architecture')
  })

  await t.test('UEFI by HTTPS Boot: the firmware checks our certificate; to stage 2', async (t) => {
    const server = await dhcp(place, nodes, range)
    t.teardown(() => server.stop())
    const boot = await powerOn(t, place, 'https', { fwCfg: noPxe })
    await follow(t, boot, ['iPXE initialising devices', 'Pawl: node https', 'pawl: stage2: started'])
    t.match(await site.pawl('node', 'show', 'https'), { state: 'booting' })
    const asked = site.log().match(/"route":"\/v1\/ipxe\/:file","method":"\w+"/g) ?? []
    t.same(
      asked.slice(0, 2).map((line) => /"method":"(\w+)"/.exec(line)?.[1]),
      ['HEAD', 'GET'],
    )
  })

  await t.test('UEFI by HTTPS Boot: firmware that trusts another root goes no further', async (t) => {
    const server = await dhcp(place, nodes, range)
    t.teardown(() => server.stop())
    const other = join(site.dataDir, '..', 'other')
    await run('ip', [...network.command.slice(1), ...site.command.slice(-1), 'init', '--data', other])
    const caCert = readFileSync(join(other, 'ca.crt'), 'utf8')
    const boot = await powerOn(t, place, 'stranger', { fwCfg: noPxe, caCert })
    await follow(t, boot, ['Error: Could not retrieve NBP file size from HTTP server'])
    await boot.machine.powerOff()
    const failed = async () => eventsOf(site, '--kind', 'handshake-failed')
    // Refusals are written a moment later, at lower priority than boots.
    for (let seconds = 0; (await failed()).length === 0 && seconds < 30; seconds += 1) await second(1000)
    const [event] = await failed()
    t.comment(JSON.stringify(event))
    t.match(
      event?.detail,
      { advice: String, offered: { versions: Array } },
      'the server says who it was, and what to do',
    )
  })

  await t.test(
    'BIOS by PXE: an old iPXE in the NIC is loaded a newer one, which boots by HTTPS',
    async (t) => {
      // Only a test may: whoever answers DHCP says here whom iPXE trusts (docs/ways-in.md). An own build has the root inside.
      const root = createHash('sha256').update(new X509Certificate(site.ca).raw).digest('hex')
      const trust = `dhcp-option-force=tag:bios,encap:175,90,${root.match(/../g)?.join(':')}`
      const server = await dhcp(place, nodes, range, [trust])
      t.teardown(() => server.stop())
      const boot = await powerOn(t, place, 'bios', oldNic)
      await follow(t, boot, [
        'OLD iPXE: 1.0.0',
        'iPXE 2.0.0',
        'Pawl: node bios, boot session',
        /artifacts\/kernel\.\.\. +\d+%/,
        'pawl: stage2: started',
        'pawl: ready',
      ])
      await boot.machine.exited
      await isReady(t, site, 'bios')
    },
  )

  await t.test('ProxyDHCP beside a DHCP server that knows nothing of Pawl: UEFI by PXE', async (t) => {
    const plain = await network.dnsmasq(
      [
        ...['port=0', `interface=${network.bridge}`, 'bind-dynamic', 'no-ping', 'log-dhcp'],
        ...['dhcp-range=10.93.0.50,10.93.0.99,1h', `dhcp-host=${factsOf('proxied').mac},10.93.0.14`, ''],
      ].join('\n'),
    )
    t.teardown(() => plain.stop())
    const proxy = await dhcp(place, [], ['--proxy', '--range', '10.93.0.0/24', '--boot-url', bootUrl(site)])
    t.teardown(() => proxy.stop())
    const boot = await powerOn(t, place, 'proxied', { withoutCa: true })
    await follow(t, boot, ['iPXE initialising devices', 'Pawl: node proxied', 'pawl: stage2: started'])
    t.notMatch(proxy.log(), /DHCPACK.*10\.93\.0\.14 /, 'the proxy leases nothing')
    t.match(await site.pawl('node', 'show', 'proxied'), { state: 'booting' })
  })
}

function bootUrl(site: Site): string {
  return `https://10.93.0.1:${site.bootPort}`
}

async function isReady(t: Test, site: Site, name: string): Promise<void> {
  t.match(await site.pawl('node', 'show', name), { state: 'ready', session: { state: 'ready' } })
}
