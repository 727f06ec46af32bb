import t from 'tap'
import { parsePublicUrl } from '../src/config-values.ts'

t.test('a public URL that leads machines nowhere is refused, and says why', async (t) => {
  const cases: [host: string, why: string][] = [
    ['[fe80::1]', 'fe80::1 is link-local: it means nothing beyond its own link'],
    ['[::]', ':: is the unspecified address, of no machine'],
    ['0.0.0.0', '0.0.0.0 is the unspecified address, of no machine'],
    ['[ff02::1]', 'ff02::1 is a multicast address, of no machine alone'],
    ['224.0.0.1', '224.0.0.1 is a multicast address, of no machine alone'],
  ]
  for (const [host, why] of cases)
    t.throws(() => parsePublicUrl(`https://${host}:8443`), { message: `what machines reach: ${why}` }, host)
  t.throws(() => parsePublicUrl('https://[fe80::1%25eth0]:8443'), { message: /^https:\/\/HOST/ })
  for (const good of [
    'https://[2001:db8::1]:8443',
    'https://[fd00::1]',
    'https://[::1]:8443',
    'https://127.0.0.1',
  ])
    t.equal(parsePublicUrl(good), good)
})
