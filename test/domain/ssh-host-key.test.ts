import t from 'tap'
import { parseSshHostKeys } from '../../src/domain/ssh-host-key.ts'

const ed25519 = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdKBUfocEZU+jdU5YmM65TgLqcTjEKYSqoO5napg2B7'
const ecdsa =
  'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBLnUKdZsFRHTEzVHlxDi5mKdgnmFiaP/pofU7x01FkF9+UY2cnHaJcUI7S9GGAKUgTfBKt+DOefJJOUDZmvKtEQ='
const rsa =
  'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDB7REsSLk91dkraiT7R992HE+Dhwuku26uIJ4sUl912i6TzShPSmTR11l/5G8ZLdbCOuu/4X61cmXUvjuDFudyvgTwcI4CRW/JXTx5SIpJX/18uvvz97ok13nIrINAMAXyRcQcO+92lBdmfCvbl+8y51TUPxJRmcVfav7GMwkHRMDBF+sZiUtjSkWtn8o9urT/AhtS6C2WLco6Agl/zezw9FCHVaSAE/IkQG6OfX83JNXtnHelCt7ajTuZQkH20/Pf2lgZAGN0sc8pITWAfLIo50umla1hGsd4tpt+saNUS81Q44nY6XPXwHscdLk+nxrTm8uAzhaQlRt9EJAZTg4j'

/** A key of any shape: its fields, each behind its length. */
function key(type: string, ...fields: (string | Buffer)[]): string {
  const parts = fields.flatMap((field) => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(field.length)
    return [length, Buffer.from(field)]
  })
  return `${type} ${Buffer.concat(parts).toString('base64')}`
}

t.test('refuses what is no public SSH host key', async (t) => {
  const point = Buffer.alloc(32)
  const bad = [
    'ssh-ed25519',
    'AAAAC3NzaC1lZDI1NTE5AAAAIJdKBUfocEZU',
    `${ed25519} root@node1`,
    `${ed25519} `,
    ` ${ed25519}`,
    ed25519.replace(' ', '  '),
    ed25519.replace('ssh-ed25519', 'ssh-rsa'),
    ed25519.replace('ssh-ed25519', 'constructor'),
    ed25519.slice(0, -4),
    `${ed25519}AAAA`,
    ed25519.replace('+', '-'),
    'ssh-ed25519 "><script>',
    'ssh-ed25519 ',
    key('ssh-ed25519', 'ssh-ed25519'),
    key('ssh-ed25519', 'ssh-rsa', point),
    key('ssh-ed25519', 'ssh-ed25519', point, point),
    key('ssh-ed25519', 'ssh-ed25519', Buffer.alloc(33)),
    key('ssh-rsa', 'ssh-rsa', Buffer.alloc(3), Buffer.alloc(129)),
    key('ssh-rsa', 'ssh-rsa', Buffer.alloc(3), Buffer.alloc(2000)),
    key('ssh-dss', 'ssh-dss', point, point, point, point),
    '-----BEGIN OPENSSH PRIVATE KEY-----',
    `${ed25519}\n${ed25519}`,
    Array.from({ length: 9 }, (_, i) => key('ssh-ed25519', 'ssh-ed25519', Buffer.alloc(32, i))).join('\n'),
  ]
  for (const text of bad) t.throws(() => parseSshHostKeys(text), { code: 'invalid' }, text.slice(0, 60))
})

t.test('takes what ssh-keygen writes, as it is', async (t) => {
  t.same(parseSshHostKeys(''), [])
  t.same(parseSshHostKeys(`${ecdsa}\n${ed25519}\n${rsa}\n`), [ecdsa, ed25519, rsa])
  t.same(parseSshHostKeys(`${ecdsa}\r\n${ed25519}`), [ecdsa, ed25519])
})
