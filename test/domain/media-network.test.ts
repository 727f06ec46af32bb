import t from 'tap'
import { type MediaNetworkWords, parseMediaNetwork } from '../../src/domain/media-network.ts'

t.test('refuses network settings by which no machine would be reached, in words', async (t) => {
  const refused: [MediaNetworkWords, string | RegExp][] = [
    [{ vlan: 0 }, 'VLAN 0 is not a number from 1 to 4094 (IEEE 802.1Q)'],
    [{ vlan: 4095 }, /VLAN 4095/],
    [{ vlan: 1.5 }, /VLAN 1.5/],
    [{ vlan: Number.NaN }, /VLAN NaN/],
    [{ gateway: '192.0.2.1' }, 'a gateway goes with an address: without one, DHCP tells both'],
    [{ dns: '192.0.2.1' }, 'a dns goes with an address: without one, DHCP tells both'],
    [{ address: '192.0.2.10' }, '"192.0.2.10" is not an IPv4 address with its prefix length'],
    [{ address: '192.0.2.10/33' }, /prefix length/],
    [{ address: '192.0.2.10/0' }, /prefix length/],
    [{ address: '192.0.2.010/24' }, 'address "192.0.2.010" is not an IPv4 address of a machine'],
    [{ address: '192.0.2/24' }, /not an IPv4 address of a machine/],
    [{ address: '127.0.0.1/8' }, /not an IPv4 address of a machine/],
    [{ address: '224.0.0.5/24' }, /not an IPv4 address of a machine/],
    [{ address: '2001:db8::1' }, '"2001:db8::1" is not an IPv6 address with its prefix length'],
    [{ address: '2001:db8::1/129' }, /prefix length/],
    [{ address: '2001:db8::1/0' }, /prefix length/],
    [{ address: '2001:db8::1%eth0/64' }, /prefix length/],
    [{ address: '2001:db8::1/64 || shell' }, /prefix length/],
    [{ address: '2001:db8:::1/64' }, /not an IPv6 address of a machine/],
    [{ address: 'fe80::1/64' }, 'address "fe80::1" is not an IPv6 address of a machine'],
    [{ address: 'ff02::1/64' }, /not an IPv6 address of a machine/],
    [{ address: '::1/128' }, /not an IPv6 address of a machine/],
    [{ address: '::ffff:192.0.2.1/96' }, /not an IPv6 address of a machine/],
    [{ address: '2001:db8::1/64', gateway: '192.0.2.1' }, /gateway .* is not an IPv6 address of a machine/],
    [
      { address: '2001:db8::1/64', gateway: 'fe80::1%eth0' },
      /gateway .* is not an IPv6 address of a machine/,
    ],
    [{ address: '2001:db8::1/64', gateway: '2001:db8:1::1' }, /cannot be reached/],
    [
      { address: '2001:db8::1/64', gateway: '2001:db8::1' },
      "gateway 2001:db8::1 is the machine's own address",
    ],
    [{ address: '2001:db8::1/64', dns: 'fe80::53' }, /DNS server "fe80::53" is not/],
    [{ address: '192.0.2.10/24', dns: '2001:db8::53' }, /DNS server "2001:db8::53" is not/],
    [{ address: '192.0.2.10/24 || shell' }, /prefix length/],
    [{ address: '192.0.2.0/24' }, '"192.0.2.0/24" is the address of its network, not of a machine in it'],
    [{ address: '192.0.2.255/24' }, /is the address of its network/],
    [
      { address: '192.0.2.10/24', gateway: '198.51.100.1' },
      'gateway 198.51.100.1 is not in the network of 192.0.2.10/24: it cannot be reached',
    ],
    [{ address: '192.0.2.10/24', gateway: '192.0.2.10' }, "gateway 192.0.2.10 is the machine's own address"],
    [{ address: '192.0.2.10/24', gateway: '${x}' }, /gateway .* is not an IPv4 address of a machine/],
    [{ address: '192.0.2.10/24', dns: 'ns.example.com' }, /DNS server "ns.example.com" is not/],
    [{ mac: '52:54:00:12:34' }, /MAC/],
  ]
  for (const [words, message] of refused)
    t.throws(() => parseMediaNetwork(words), { code: 'invalid', message }, JSON.stringify(words))
})

t.test('reads what an iPXE line carries', async (t) => {
  t.same(parseMediaNetwork({ address: '2001:DB8:0::10/64', gateway: 'FE80::1', dns: '2001:db8::53' }), {
    address: '2001:db8::10',
    prefixLength: 64,
    gateway: 'fe80::1',
    dns: '2001:db8::53',
  })
  t.same(parseMediaNetwork({ address: '2001:db8::10/128' }), { address: '2001:db8::10', prefixLength: 128 })
  t.same(parseMediaNetwork({}), {})
  t.same(parseMediaNetwork({ mac: '52-54-00-AB-CD-EF', vlan: 42 }), { mac: '52:54:00:ab:cd:ef', vlan: 42 })
  t.same(parseMediaNetwork({ address: '10.0.2.15/24', gateway: '10.0.2.2', dns: '10.0.2.3' }), {
    address: '10.0.2.15',
    netmask: '255.255.255.0',
    gateway: '10.0.2.2',
    dns: '10.0.2.3',
  })
  t.same(parseMediaNetwork({ address: '192.0.2.0/31', gateway: '192.0.2.1' }), {
    address: '192.0.2.0',
    netmask: '255.255.255.254',
    gateway: '192.0.2.1',
  })
})
