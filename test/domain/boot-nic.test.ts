import t from 'tap'
import { bootNic } from '../../src/domain/boot-nic.ts'
import type { Facts } from '../../src/domain/facts.ts'

/** What a handover says of the NIC that iPXE booted from. */
const byName = { publicUrl: 'https://boot.example.com:8443', source: '192.0.2.10' }
const v4: Facts = { ip: '192.0.2.10', netmask: '255.255.255.0', gateway: '192.0.2.1', dns: '192.0.2.2' }
const v6: Facts = { ip6: '2001:db8::10', len6: '64', gateway6: 'fe80::1', dns6: '2001:db8::53' }
const nothing = {
  mac: null,
  vlan: null,
  family: 4,
  dhcp: true,
  address: null,
  netmask: null,
  gateway: null,
  dns: null,
  method6: null,
  address6: null,
  prefix6: null,
  gateway6: null,
  dns6: null,
  duid: null,
  iaid: null,
}

t.test('what is not of its form is left out, as if it were not told', async (t) => {
  const bad = [
    '$(reboot)',
    '1.2.3',
    '010.0.0.1',
    'fe80::1%eth0',
    '2001:db8::1/64',
    '::ffff:192.0.2.1',
    '::1',
    '::',
    'ff02::1',
    'x',
  ]
  for (const value of bad) {
    const facts: Facts = {
      ip6: value,
      gateway6: value,
      dns6: value,
      gateway: value,
      dns: value,
      netmask: value,
    }
    t.strictSame(bootNic(facts, byName), nothing, value)
  }
  t.strictSame(bootNic({ ip: 'x;y' }, byName), { ...nothing, dhcp: false }, 'no address: agents ask DHCP')
  for (const len6 of ['0', '129', '-1', '64.0', '0x40', ' 64', '99999'])
    t.equal(bootNic({ ...v6, len6 }, byName).prefix6, null, `length ${len6}`)
  for (const vlan of ['0', '4095', '1e3', 'eth0'])
    t.equal(bootNic({ vlan }, byName).vlan, null, `VLAN ${vlan}`)
  t.strictSame(bootNic({ mac: 'no', uuid: 'no' }, byName), nothing)
})

t.test('a link-local address is none, though a router may have one', async (t) => {
  const nic = bootNic(
    { ip6: 'fe80::5054:ff:fe12:3456', len6: '64', gateway6: 'fe80::1', dns6: 'fe80::1' },
    byName,
  )
  t.match(nic, { family: 4, address6: null, method6: null, gateway6: 'fe80::1', dns6: null })
})

t.test('the family is the one that iPXE has, or with both the one that it came by', async (t) => {
  const literal6 = { publicUrl: 'https://[2001:db8::1]:8443', source: '192.0.2.10' }
  const literal4 = { publicUrl: 'https://192.0.2.1:8443', source: '2001:db8::10' }
  const from6 = { ...byName, source: '2001:db8::10' }
  const both = { ...v4, ...v6 }
  const cases: [Facts, typeof byName, 4 | 6][] = [
    [v4, from6, 4],
    [v4, literal6, 4],
    [v6, byName, 6],
    [v6, literal4, 6],
    [both, literal6, 6],
    [both, literal4, 4],
    [both, from6, 6],
    [both, byName, 4],
    [both, { ...byName, source: 'unknown' }, 4],
    [{}, literal6, 6],
    [{}, from6, 6],
    [{}, byName, 4],
  ]
  for (const [facts, meeting, family] of cases)
    t.equal(bootNic(facts, meeting).family, family, JSON.stringify([facts, meeting]))
})

t.test('IPv4 as before', async (t) => {
  t.strictSame(bootNic({ ...v4, mac: '52-54-00-12-34-56', vlan: '42' }, byName), {
    ...nothing,
    mac: '52:54:00:12:34:56',
    vlan: '42',
    dhcp: false,
    address: '192.0.2.10',
    netmask: '255.255.255.0',
    gateway: '192.0.2.1',
    dns: '192.0.2.2',
    iaid: 2857742559,
  })
  t.equal(bootNic({ ...v4, dhcp: '192.0.2.1' }, byName).dhcp, true)
})

t.test('IPv6: how iPXE came to its address, and as whom it asks DHCPv6', async (t) => {
  t.match(bootNic({ ...v6, slaac6: '2001:db8::10' }, byName), { method6: 'slaac', prefix6: 64 })
  // A router that leaves addresses to DHCPv6: iPXE tells the prefix as the router's, and 128 as one signed byte.
  t.match(bootNic({ ...v6, len6: '-128', slaac6: '2001:db8::', dhcp6: '2001:db8::10' }, byName), {
    method6: 'dhcp',
    prefix6: 128,
  })
  // As an iPXE 2.0.0 told it that OVMF had loaded by PXE over IPv6.
  t.match(bootNic({ ip6: '::', slaac6: '2001:db8::', dhcp6: '2001:db8::10' }, byName), {
    family: 6,
    method6: 'dhcp',
    address6: '2001:db8::10',
  })
  t.match(bootNic({ ip6: '::', slaac6: '2001:db8::10' }, byName), {
    method6: 'slaac',
    address6: '2001:db8::10',
  })
  t.match(bootNic(v6, byName), { method6: 'static', address6: '2001:db8::10', gateway6: 'fe80::1' })
  t.equal(bootNic({ ...v6, ip6: '2001:DB8:0:0::10' }, byName).address6, '2001:db8::10', 'one spelling')
  // As dnsmasq logged it of Debian's iPXE 1.21.1 and 2.0.0.
  t.match(bootNic({ mac: '52:54:00:12:34:56', uuid: '11223344-5566-7788-99AA-BBCCDDEEFF00' }, byName), {
    duid: '00:04:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00',
    iaid: 2857742559,
  })
})
