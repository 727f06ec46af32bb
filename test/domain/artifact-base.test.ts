import t from 'tap'
import { artifactBaseOf, cachedUrl } from '../../src/domain/artifact-base.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'

const profile = { name: 'p', downloads: 'digest', boot: { stage2: 'a@1', stage3: 'b@1' } }

t.test('refuses a base that a script, a shell or a URL could not carry', async (t) => {
  const bad = [
    '',
    'cache.example.net',
    'ftp://cache.example.net',
    'http://',
    'http://user@cache.example.net',
    'http://user:pass@cache.example.net',
    'http://cache.example.net/',
    'http://cache.example.net/a/',
    'http://cache.example.net/?c=1',
    'http://cache.example.net/a#b',
    'http://cache.example.net/${mac}',
    'http://cache.example.net/a b',
    'http://cache.example.net/a;b',
    "http://cache.example.net/'",
    'http://cache.example.net:99999999',
    `http://${'a'.repeat(256)}`,
    {},
    { 'a b': 'http://cache.example.net' },
    { ams: 'http://cache.example.net/' },
    { ams: null },
    ['http://cache.example.net'],
    7,
  ]
  for (const artifactBase of bad)
    t.throws(
      () => parseProfile({ ...profile, artifactBase }),
      { code: 'invalid' },
      JSON.stringify(artifactBase),
    )
})

t.test('refuses one where a cache would need a capability', async (t) => {
  for (const downloads of ['session', undefined])
    t.throws(() => parseProfile({ ...profile, downloads, artifactBase: 'http://cache.example.net' }), {
      code: 'invalid',
      message: /artifactBase needs "downloads: digest"/,
    })
})

t.test('reads one URL, or one for each site, and writes back what it read', async (t) => {
  const good = [
    'http://cache.example.net',
    'https://cache.example.net:8443/pawl',
    'http://192.0.2.7:8080',
    'http://[2001:db8::7]:8080',
    { ams: 'http://cache.ams.example.net:8080', 'fra.1': 'https://cache.fra.example.net' },
  ]
  for (const artifactBase of good) {
    const parsed = parseProfile({ ...profile, artifactBase })
    t.strictSame(parsed.artifactBase, artifactBase)
    t.strictSame(parseProfile(writeProfile(parsed)), parsed)
  }
  t.equal('artifactBase' in writeProfile(parseProfile(profile)), false)
})

t.test('a node has the base of its site, and none where its site has none', async (t) => {
  const bySite = { ams: 'http://ams.example.net', constructor1: 'http://c.example.net' }
  t.equal(artifactBaseOf('http://one.example.net', {}), 'http://one.example.net')
  t.equal(artifactBaseOf(bySite, { site: 'ams' }), 'http://ams.example.net')
  for (const labels of [{}, { site: 'fra' }, { site: 'constructor' }, { Site: 'ams' }])
    t.equal(artifactBaseOf(bySite, labels as Record<string, string>), undefined, JSON.stringify(labels))
  t.equal(artifactBaseOf(undefined, { site: 'ams' }), undefined)
  t.equal(cachedUrl('http://c.example.net:8080', 'ab'), 'http://c.example.net:8080/v1/artifacts/sha256/ab')
})
