import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { dnsmasqConfig } from '../../src/dhcp/dnsmasq.ts'
import {
  type DhcpBinary,
  type DhcpPlan,
  type DhcpSource,
  firmwares,
  planDhcp,
} from '../../src/dhcp/entries.ts'
import { keaConfig } from '../../src/dhcp/kea.ts'
import { type DhcpFlags, parseDhcpFlags } from '../../src/dhcp/options.ts'

/** What `pawl dhcp config` writes, held against golden files and against the DHCP servers' own checks. */
const root = 'aa'.repeat(32)

const binary = (name: string, more: Partial<DhcpBinary> = {}): DhcpBinary => ({
  name,
  platform: name.endsWith('.efi') ? 'efi' : 'bios',
  arch: name.includes('arm64') ? 'arm64' : 'x86_64',
  version: '2.0.0+dfsg-1',
  features: ['https', 'ipv6'],
  trust: { kind: 'root', fingerprint: root },
  ...more,
})

const source: DhcpSource = {
  publicUrl: 'https://boot.example.com:8443',
  rootFingerprint: root,
  tftp: { host: '192.0.2.1', port: 69 },
  binaries: [
    binary('ipxe.efi'),
    binary('ipxe-arm64.efi'),
    binary('undionly.kpxe', { features: null, trust: { kind: 'unknown' }, arch: 'i386' }),
  ],
}

function plan(flags: DhcpFlags = {}, from: Partial<DhcpSource> = {}, bootUrl?: string): DhcpPlan {
  return planDhcp({ ...source, ...from }, parseDhcpFlags(flags, bootUrl))
}

const range4 = '192.0.2.100-192.0.2.199/24'
const range6 = '2001:db8::100-2001:db8::1ff/64'
const network = { interface: 'eth1', router: ['192.0.2.254'], dns: ['192.0.2.53', '2001:db8::53'] }
const both = { ...network, range: [range4, range6], tftpServer: ['192.0.2.1', '2001:db8::1'] }

const cases: Readonly<Record<string, string>> = {
  'dnsmasq.conf': dnsmasqConfig(plan(both)),
  'dnsmasq-proxy.conf': dnsmasqConfig(plan({ interface: 'eth1', proxy: true, range: ['192.0.2.0/24'] })),
  'dnsmasq-snippet.conf': dnsmasqConfig(plan()),
  'dnsmasq-nothing.conf': dnsmasqConfig(plan({}, { tftp: undefined, binaries: [] })),
  'kea-dhcp4.conf': keaConfig(plan({ ...both, range: [range4] })),
  'kea-dhcp4-snippet.conf': keaConfig(plan()),
  'kea-dhcp6.conf': keaConfig(plan({ ...both, range: [range6], router: [] })),
}

t.test('each configuration is its golden file (PAWL_UPDATE=golden writes it)', async (t) => {
  for (const [name, text] of Object.entries(cases)) {
    const file = join(import.meta.dirname, 'golden', name)
    if (process.env.PAWL_UPDATE === 'golden') writeFileSync(file, text)
    t.equal(text, readFileSync(file, 'utf8'), name)
  }
})

const wanted = process.env.PAWL_REQUIRE === 'all'
const skipWithout = (program: string, ...args: string[]) =>
  !wanted && spawnSync(program, args).error !== undefined ? { skip: `${program} is not installed` } : {}

t.test('dnsmasq takes each of them', skipWithout('dnsmasq', '--version'), async (t) => {
  for (const [name, text] of Object.entries(cases)) {
    if (!name.startsWith('dnsmasq')) continue
    const file = join(t.testdir(), name)
    writeFileSync(file, text)
    const { status, stderr } = spawnSync('dnsmasq', ['--test', `--conf-file=${file}`], { encoding: 'utf8' })
    t.equal(status, 0, `${name}: ${stderr}`)
  }
})

for (const family of [4, 6]) {
  t.test(`kea-dhcp${family} takes each of them`, skipWithout(`kea-dhcp${family}`, '-V'), async (t) => {
    for (const [name, text] of Object.entries(cases)) {
      if (!name.startsWith(`kea-dhcp${family}`)) continue
      // The name of an interface is checked against this machine's.
      const file = join(t.testdir(), name)
      writeFileSync(file, text.replaceAll('"eth1"', '"lo"'))
      const { status, stdout, stderr } = spawnSync(`kea-dhcp${family}`, ['-t', file], {
        encoding: 'utf8',
        env: { ...process.env, KEA_LOCKFILE_DIR: 'none', KEA_PIDFILE_DIR: t.testdirName },
      })
      t.equal(status, 0, `${name}: ${stdout}${stderr}`)
    }
  })
}

t.test('architecture types are those of IANA, each told once', async (t) => {
  t.same(
    firmwares.map(({ name, types }) => [name, types]),
    [
      ['bios', [0]],
      ['efi-x64', [7, 9]],
      ['efi-arm64', [11]],
      ['http-x64', [16]],
      ['http-arm64', [19]],
    ],
  )
})

t.test('which iPXE a firmware is told', async (t) => {
  const files = (binaries: DhcpBinary[], flags: DhcpFlags = {}): Record<string, string> =>
    Object.fromEntries(plan(flags, { binaries }).entries.map(({ name, file }) => [name, file]))
  const publicOne = binary('stock.efi', { trust: { kind: 'public' }, version: '9.0.0' })
  t.match(files([publicOne, binary('ours.efi')]), { 'efi-x64': 'ours.efi' }, 'one that trusts our root first')
  t.match(files([publicOne]), { 'efi-x64': 'stock.efi' }, 'a stock one where there is no other')
  t.match(files([binary('a.efi', { version: '1.21.1+git2025' }), binary('b.efi', { version: '2.0.0' })]), {
    'efi-x64': 'b.efi',
  })
  t.match(files([binary('a.efi', { version: '1.9.0' }), binary('b.efi', { version: '1.21.1' })]), {
    'efi-x64': 'b.efi',
  })
  t.same(
    files([binary('x.efi', { trust: { kind: 'root', fingerprint: 'bb'.repeat(32) } })]),
    {},
    'another root',
  )
  t.same(files([binary('x.efi', { features: ['ipv6'] })]), {}, 'no HTTPS')
  t.same(files([binary('x.efi', { trust: { kind: 'nobody' } })]), {}, 'trusts nobody')
  t.same(files([binary('ipxe.lkrn')]), {}, 'a kernel is for disks')
  t.match(files([binary('a.efi'), binary('b.efi')], { binary: ['b.efi'] }), {
    'efi-x64': 'b.efi',
    'http-x64': 'https://boot.example.com:8443/v1/ipxe/b.efi',
  })
})

t.test('what cannot work is left out, and said', async (t) => {
  const remarks = (flags: DhcpFlags, from: Partial<DhcpSource>, url?: string): string =>
    plan(flags, from, url).remarks.join('\n')
  t.match(remarks({}, { tftp: undefined }), /serves no TFTP \(--tftp-listen\)/)
  t.match(remarks({}, { tftp: { host: '::', port: 69 } }), /No address of the TFTP server is known/)
  t.match(remarks({}, { tftp: { host: '192.0.2.1', port: 6969 } }), /port 6969: firmware asks port 69/)
  t.match(remarks({}, { binaries: [] }), /No iPXE for arm64 UEFI by PXE: pawl ipxe fetch/)
  t.match(remarks({}, {}), /must be told a DNS server/)
  t.notMatch(remarks({}, {}, 'https://192.0.2.1:8443'), /DNS server/)
  t.match(remarks({}, {}), /Nobody can see whom undionly.kpxe trusts/)
  const stock = [binary('stock.efi', { trust: { kind: 'public' } })]
  t.match(remarks({}, { binaries: stock }), /stock.efi trusts the root only where the firmware does/)
  t.same(plan({}, { tftp: { host: '[::]', port: 69 }, publicUrl: 'https://192.0.2.9:8443' }).tftp, {
    ipv4: '192.0.2.9',
  })
  t.same(plan({}, { tftp: { host: '2001:db8::9', port: 69 } }).tftp, { ipv6: '2001:db8::9' })
})

t.test('refuses what a configuration cannot carry', async (t) => {
  const refused: [DhcpFlags, RegExp][] = [
    [{ interface: 'eth0\nuser=x' }, /--interface "eth0\\nuser=x" is not a network interface/],
    [{ interface: '-eth0' }, /--interface/],
    [{ interface: 'a'.repeat(16) }, /--interface/],
    [{ range: ['192.0.2.1'] }, /--range "192.0.2.1" is not FIRST-LAST\/LENGTH/],
    [{ range: ['192.0.2.1-192.0.2.9'] }, /FIRST-LAST/],
    [{ range: ['192.0.2.9-192.0.2.1/24'] }, /not behind its last/],
    [{ range: ['192.0.2.1-192.0.3.9/24'] }, /inside one network of length 24/],
    [{ range: ['192.0.2.1-192.0.2.9/31'] }, /a length from 8 to 30/],
    [{ range: ['192.0.2.1-2001:db8::1/24'] }, /one family/],
    [{ range: ['2001:db8::1-2001:db8::9/48'] }, /IPv6: 64/],
    [{ range: ['2001:db8::9-2001:db8::1/64'] }, /not behind its last/],
    [{ range: ['1.2.3.999-1.2.3.4/24'] }, /FIRST-LAST/],
    [{ range: [range4, range4] }, /two IPv4 ranges/],
    [{ router: ['192.0.2.1,6,1.1.1.1'] }, /--router/],
    [{ router: ['192.0.2.1', '192.0.2.2'] }, /two routers/],
    [{ router: ['2001:db8::1'] }, /--router is of IPv4/],
    [{ dns: ['192.0.2.0/24'] }, /--dns "192.0.2.0\/24" is not an IP address/],
    [{ dns: ['0.0.0.0'] }, /that machines can reach/],
    [{ tftpServer: ['192.0.2.1', '192.0.2.2'] }, /two IPv4 addresses/],
    [{ tftpServer: ['tftp.example.com'] }, /--tftp-server/],
    [{ proxy: true }, /--proxy needs the network/],
    [{ proxy: true, range: ['192.0.2.100-192.0.2.199/24'] }, /with --proxy a network/],
    [{ proxy: true, range: ['192.0.2.7/24'] }, /with --proxy a network/],
    [{ proxy: true, range: ['192.0.2.0/24'], router: ['192.0.2.1'] }, /not told to machines with --proxy/],
    [{ proxy: true, range: ['192.0.2.0/24'], dns: ['192.0.2.1'] }, /not told to machines with --proxy/],
    [{ proxy: true, range: ['2001:db8::/64'] }, /DHCPv6 has no ProxyDHCP/],
  ]
  for (const [flags, message] of refused)
    t.throws(() => parseDhcpFlags(flags, undefined), { code: 'usage', message }, JSON.stringify(flags))
})
