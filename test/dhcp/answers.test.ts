import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { dnsmasqConfig } from '../../src/dhcp/dnsmasq.ts'
import { type DhcpSource, planDhcp } from '../../src/dhcp/entries.ts'
import { keaConfig } from '../../src/dhcp/kea.ts'
import { type DhcpFlags, parseDhcpFlags } from '../../src/dhcp/options.ts'
import { networkAbsent, startNetwork, type TestNetwork } from '../boot/helpers/network.ts'

/** What real DHCP servers answer, in a network of the test's own, when they are set up as Pawl wrote it. */
const root = 'aa'.repeat(32)
const binary = { version: '2.0.0', features: ['https'], trust: { kind: 'root', fingerprint: root } } as const
const source: DhcpSource = {
  publicUrl: 'https://boot.example.com:8443',
  rootFingerprint: root,
  tftp: undefined,
  binaries: [
    { ...binary, name: 'x64.efi', platform: 'efi', arch: 'x86_64' },
    { ...binary, name: 'arm64.efi', platform: 'efi', arch: 'arm64' },
    { ...binary, name: 'undionly.kpxe', platform: 'bios', arch: 'i386' },
  ],
}
const plan = (flags: DhcpFlags) => planDhcp(source, parseDhcpFlags({ interface: 'br0', ...flags }, undefined))
const range4 = '10.93.0.50-10.93.0.99/24'
const range6 = 'fd93::100-fd93::1ff/64'
const tftpServer = ['10.93.0.1', 'fd93::1']
const http = (name: string): string => `https://boot.example.com:8443/v1/ipxe/${name}`

interface Answer4 {
  readonly file: string
  readonly server: string
  readonly vendorClass: string
  readonly ipxeOptions: string
}

/** iPXE's option: the version, and the feature HTTPS. */
const ipxeOption = 'eb03020000140101'
const oldIpxeOption = 'eb03010000130101'

interface Client {
  readonly architecture: number
  readonly vendor?: string
  readonly ipxe?: string
}

/** Who asks, and what dnsmasq and Kea are to say. Kea looks into iPXE's option. */
const cases: readonly (readonly [string, Client, string | undefined, string?])[] = [
  ['BIOS', { architecture: 0 }, 'undionly.kpxe'],
  ['x64 UEFI', { architecture: 7 }, 'x64.efi'],
  ['x64 UEFI of before the erratum', { architecture: 9 }, 'x64.efi'],
  ['arm64 UEFI', { architecture: 11 }, 'arm64.efi'],
  ['x64 HTTPS Boot', { architecture: 16, vendor: 'HTTPClient' }, http('x64.efi')],
  ['arm64 HTTPS Boot', { architecture: 19, vendor: 'HTTPClient' }, http('arm64.efi')],
  ['iPXE', { architecture: 7, ipxe: ipxeOption }, 'autoexec.ipxe', http('autoexec.ipxe')],
  ['an iPXE without HTTPS', { architecture: 0, ipxe: oldIpxeOption }, 'autoexec.ipxe', 'undionly.kpxe'],
  ['32-bit UEFI, which Pawl does not serve', { architecture: 6 }, undefined],
]

async function openNetwork(t: Test): Promise<TestNetwork> {
  const network = await startNetwork({ addresses: ['10.93.0.1/24', 'fd93::1/64'] })
  t.teardown(() => network.stop())
  // The client: the far end of a cable to the bridge.
  await network.run('ip', 'link', 'add', 'client', 'type', 'veth', 'peer', 'name', 'port')
  await network.run('ip', 'link', 'set', 'port', 'master', network.bridge, 'up')
  await network.run('ip', 'link', 'set', 'client', 'up')
  return network
}

/** Asks as firmware would, for a lease; undefined where nobody answers. */
async function ask4(t: Test, network: TestNetwork, client: Client): Promise<Answer4 | undefined> {
  const script = join(t.testdirName, '..', 'udhcpc.sh')
  mkdirSync(join(script, '..'), { recursive: true })
  const said = 'echo "${bootfile:-$boot_file}|$siaddr|$vendor|$opt175"'
  writeFileSync(script, `#!/bin/sh\n[ "$1" != bound ] || ${said}\n`, { mode: 0o755 })
  const { architecture, vendor = 'PXEClient', ipxe } = client
  const hex = architecture.toString(16).padStart(4, '0')
  const out = await network
    .run(
      ...([
        'busybox',
        'udhcpc',
        '-i',
        'client',
        '-f',
        '-n',
        '-q',
        '-t',
        '8',
        '-T',
        '1',
        '-s',
        script,
      ] as const),
      ...['-V', `${vendor}:Arch:${String(architecture).padStart(5, '0')}:UNDI:003016`],
      ...['-x', `0x5d:${hex}`, '-O', '60', '-O', '67', '-O', '175'],
      ...(ipxe === undefined ? [] : ['-x', `0xaf:${ipxe}`, '-x', '0x4d:69505845']),
    )
    .catch(() => undefined)
  if (out === undefined) return undefined
  const [file = '', server = '', vendorClass = '', ipxeOptions = ''] = out.trim().split('|')
  return { file, server, vendorClass, ipxeOptions }
}

async function checkAll4(t: Test, network: TestNetwork, kind: 'dnsmasq' | 'kea'): Promise<void> {
  for (const [who, client, ofDnsmasq, ofKea = ofDnsmasq] of cases) {
    const answer = await ask4(t, network, client)
    const expected = kind === 'kea' ? ofKea : ofDnsmasq
    t.equal(answer?.file, expected ?? '', who)
    // 176: it waits for no ProxyDHCP server.
    const isSentItsScript = expected?.endsWith('autoexec.ipxe') === true
    t.match(answer?.ipxeOptions, isSentItsScript ? /^b00101(ff)?$/ : /^$/, `${who}: option 175`)
    if (client.vendor === 'HTTPClient') t.equal(answer?.vendorClass, 'HTTPClient', `${who}: option 60`)
    if (expected !== undefined && !expected.includes(':'))
      t.equal(answer?.server, '10.93.0.1', `${who}: TFTP server`)
  }
}

async function checkAll6(t: Test, network: TestNetwork, kind: 'dnsmasq' | 'kea'): Promise<void> {
  const client = join(import.meta.dirname, 'helpers/solicit.ts')
  const ask = async (...args: string[]): Promise<Record<string, string>> =>
    JSON.parse(await network.run(process.execPath, client, 'client', ...args))
  const url = async (...args: string[]): Promise<string> =>
    Buffer.from((await ask(...args))['59'] ?? '', 'hex').toString()
  t.equal(await url('7'), 'tftp://[fd93::1]/x64.efi')
  t.equal(await url('11'), 'tftp://[fd93::1]/arm64.efi')
  t.equal(await url('7', 'iPXE'), 'tftp://[fd93::1]/autoexec.ipxe')
  t.equal(await url('6'), '')
  if (kind === 'dnsmasq') return
  const booting = await ask('16')
  t.equal(Buffer.from(booting['59'] ?? '', 'hex').toString(), http('x64.efi'))
  t.equal(booting['16'], '00000157000a48545450436c69656e74', 'vendor class HTTPClient')
}

const absent = networkAbsent()
const skip = absent === undefined ? {} : { skip: absent }
const wanted = process.env.PAWL_REQUIRE === 'all'
const kea = existsSync('/usr/sbin/kea-dhcp4') && existsSync('/usr/sbin/kea-dhcp6')
const skipKea = kea || wanted ? skip : { skip: 'kea-dhcp4 and kea-dhcp6 are not installed' }

t.test('dnsmasq tells each firmware its way', skip, async (t) => {
  const network = await openNetwork(t)
  await network.dnsmasq(`${dnsmasqConfig(plan({ range: [range4, range6], tftpServer }))}no-ping\n`)
  await checkAll4(t, network, 'dnsmasq')
  await checkAll6(t, network, 'dnsmasq')
})

for (const family of [4, 6] as const) {
  t.test(`kea-dhcp${family} tells each firmware its way`, skipKea, async (t) => {
    const network = await openNetwork(t)
    const folder = t.testdir()
    const text = keaConfig(plan({ range: [family === 4 ? range4 : range6], tftpServer }))
    const file = join(folder, 'kea.json')
    // Its leases would go where the system's own are.
    writeFileSync(
      file,
      text
        .replace('"persist": true', '"persist": false')
        .replace(
          /"interfaces-config"/,
          (key) => `${family === 6 ? `"data-directory": "${folder}", ` : ''}${key}`,
        ),
    )
    const child = network.spawn(
      'env',
      ...[`KEA_PIDFILE_DIR=${folder}`, 'KEA_LOCKFILE_DIR=none', `kea-dhcp${family}`, '-c', file],
    )
    await new Promise<void>((resolve, reject) => {
      let said = ''
      const read = (data: Buffer): void => {
        said += data.toString('utf8')
        if (said.includes(`DHCP${family}_STARTED`)) resolve()
      }
      child.stdout?.on('data', read)
      child.stderr?.on('data', read)
      child.once('close', () => reject(new Error(`kea ended: ${said}`)))
    })
    await (family === 4 ? checkAll4(t, network, 'kea') : checkAll6(t, network, 'kea'))
  })
}

t.test('a network takes everything down with it', skip, async (t) => {
  const network = await startNetwork()
  const server = network.spawn('sleep', '1000')
  await network.dnsmasq('port=0\ninterface=br0\n')
  const { pid } = server
  await network.stop()
  t.notOk(existsSync(`/proc/${pid}`), 'what was started inside has ended')
  t.notOk(existsSync(`/run/netns/${network.name}`), 'the namespace is gone')
  await network.stop()
  await t.rejects((await startNetworkAndStop()).dnsmasq('no-such-option\n'), /no-such-option|ended/)
})

async function startNetworkAndStop(): Promise<TestNetwork> {
  const network = await startNetwork()
  t.teardown(() => network.stop())
  return network
}
