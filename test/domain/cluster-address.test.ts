import t from 'tap'
import { isClosedToClusters } from '../../src/domain/cluster-address.ts'

t.test('a cluster is not asked where clouds hand out credentials, in whatever spelling', async (t) => {
  for (const address of [
    ...['169.254.169.254', '169.254.0.1', '168.63.129.16', '100.64.0.256', 'nonsense', ''],
    ...['fe80::1', 'fe80::1%eth0', 'febf::1', 'fd00:ec2::254', 'FD00:0EC2:0::254', 'fd00:0ec2::254'],
    ...['::ffff:169.254.169.254', '::ffff:a9fe:a9fe', '0:0:0:0:0:ffff:a9fe:a9fe', '::ffff:a83f:8110'],
    ...['::ffff:168.63.129.16', '::a9fe:a9fe', '::ffff:0:a9fe:a9fe', '::ffff:0:169.254.1.1'],
    ...['64:ff9b::a9fe:a9fe', '64:ff9b::169.254.169.254', '64:ff9b::a83f:8110', '64:ff9b:1::a9fe:a9fe'],
    ...['2002:a9fe:a9fe::1', '2002:a83f:8110::'],
  ])
    t.equal(isClosedToClusters(address), true, address)
})

t.test('and it is asked everywhere else, on private networks too', async (t) => {
  for (const address of [
    ...['10.0.0.1', '192.168.1.1', '127.0.0.1', '168.63.129.17', '169.253.255.255', '198.51.100.7'],
    ...['::1', 'fd00:1::1', 'fd00:ec3::1', 'fec0::1', '2001:db8::1', '::ffff:10.0.0.1', '::ffff:a00:1'],
    ...['64:ff9b::a00:1', '64:ff9b:1::a00:1', '2002:a00:1::a9fe:a9fe', '2001:db8::a9fe:a9fe'],
  ])
    t.equal(isClosedToClusters(address), false, address)
})
