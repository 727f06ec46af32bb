import t from 'tap'
import { parsePostgresUrl } from '../../src/domain/postgres-url.ts'

t.test('refuses what names no database, or hosts in a way that the driver does not read', async (t) => {
  for (const text of [
    '',
    'pawl.db',
    'mysql://a/pawl',
    'postgres://',
    'postgres://a,/pawl',
    'postgres://,b/pawl',
    'postgres://a,:5433/pawl',
    'postgres://a:1,b:x/pawl',
    'postgres://a:1,b:99999/pawl',
    'postgres:///pawl?host=a,b',
    'postgres://a/pawl?port=1,2',
  ])
    t.equal(parsePostgresUrl(text), undefined, text)
})

t.test('gives each host a URL of its own, and shows all of them without the password', async (t) => {
  t.same(
    parsePostgresUrl('postgres://pawl:s3cr%40t@a.example.com:5433,[2001:db8::1],c/pawl?sslmode=verify-full'),
    {
      hosts: [
        'postgres://pawl:s3cr%40t@a.example.com:5433/pawl?sslmode=verify-full',
        'postgres://pawl:s3cr%40t@[2001:db8::1]/pawl?sslmode=verify-full',
        'postgres://pawl:s3cr%40t@c/pawl?sslmode=verify-full',
      ],
      shown: 'postgres://pawl@a.example.com:5433,[2001:db8::1],c/pawl?sslmode=verify-full',
      forWrites: true,
    },
  )
  t.equal(parsePostgresUrl('postgres://a:a@a,b/a?password=a')?.shown, 'postgres://a@a,b/a')
  t.equal(parsePostgresUrl('postgresql:///pawl?host=/run/postgresql')?.hosts.length, 1)
})

t.test('knows whether a server is asked for that takes writes', async (t) => {
  const forWrites = (target: string) =>
    parsePostgresUrl(`postgres://a,b/pawl?target_session_attrs=${target}`)?.forWrites
  for (const target of ['any', 'read-write', 'primary']) t.equal(forWrites(target), true, target)
  for (const target of ['read-only', 'standby', 'prefer-standby', 'x'])
    t.equal(forWrites(target), false, target)
})
