import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

/** What systemd-networkd of the Debian stage 3 is told of the boot NIC: the recipe's own shell functions, run here. */
const folder = mkdtempSync(join(tmpdir(), 'pawl-network-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
writeFileSync(join(folder, 'nic'), 'eth0\n')
const prepare = readFileSync(join(import.meta.dirname, '../../images/debian/prepare'), 'utf8')
  .replace(/^\. .*$/m, '')
  .replace(/^PATH=.*$/m, '')
  .replace(/^main$/m, '')
const names = 'FAMILY DHCP ADDRESS NETMASK GATEWAY DNS METHOD6 ADDRESS6 PREFIX6 GATEWAY6 DNS6 DUID IAID'

function described(nic: Readonly<Record<string, string>>): string {
  const values = names.split(' ').map((name) => `NIC_${name}='${nic[name] ?? ''}'`)
  const script = `${prepare}
address_of() { echo "address of $1"; }
RUN=${folder} ${values.join(' ')}
describe_network`
  return spawnSync('sh', ['-c', script], { encoding: 'utf8' }).stdout
}

const head = '[Match]\nName=eth0\n[Network]\n'

t.test('networkd asks as the client that iPXE was, or asks nobody', async (t) => {
  t.equal(
    described({ FAMILY: '4', DHCP: 'true', ADDRESS: '192.0.2.10' }),
    `${head}DHCP=ipv4\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\nSendRelease=no\n`,
  )
  t.equal(
    described({ FAMILY: '4', DHCP: 'false', ADDRESS: '192.0.2.10', GATEWAY: '192.0.2.1', DNS: '192.0.2.2' }),
    `${head}Address=address of eth0\nGateway=192.0.2.1\nDNS=192.0.2.2\n`,
  )
  const routed = { FAMILY: '6', DHCP: 'true', METHOD6: 'dhcp', ADDRESS6: '2001:db8::10' }
  t.equal(
    described({ ...routed, DUID: '00:04:11:22:33', IAID: '2857742559' }),
    `${head}IPv6AcceptRA=yes\n[IPv6AcceptRA]\nToken=eui64\n[DHCPv6]\nUseHostname=no\nDUIDType=uuid\nDUIDRawData=11:22:33\nIAID=2857742559\n`,
  )
  t.equal(
    described({ ...routed, METHOD6: 'slaac' }),
    `${head}IPv6AcceptRA=yes\n[IPv6AcceptRA]\nToken=eui64\n[DHCPv6]\nUseHostname=no\n`,
  )
  const given = { FAMILY: '6', METHOD6: 'static', ADDRESS6: '2001:db8::10', DNS6: '2001:db8::53' }
  t.equal(
    described({ ...given, GATEWAY6: 'fe80::1' }),
    `${head}IPv6AcceptRA=no\nAddress=address of eth0\nGateway=fe80::1\nDNS=2001:db8::53\n`,
  )
  t.equal(
    described(given),
    `${head}Address=address of eth0\nDNS=2001:db8::53\n`,
    'without a gateway the routers say where to go',
  )
})
