import t from 'tap'
import type { Api } from '../../src/cli/api.ts'
import { architectureOfPair, candidateOf, findPair } from '../../src/cli/image-test/pair.ts'

/** An API that answers these documents. */
function apiOf(documents: Record<string, unknown>): Api {
  const get = async (path: string): Promise<unknown> => documents[path] ?? t.fail(`asked for ${path}`)
  return { get } as unknown as Api // nothing else is asked
}

const both = {
  name: 'both',
  boot: {
    stage2: { x86_64: 'small@1', arm64: 'small-arm@1' },
    stage3: { x86_64: 'full@1', arm64: 'full-arm@1' },
  },
}
const images = Object.fromEntries(
  ['small', 'full'].flatMap((name) => [
    [`/images/${name}/1`, { manifest: { arch: 'x86_64' } }],
    [`/images/${name}-arm/1`, { manifest: { arch: 'arm64' } }],
  ]),
)
const api = apiOf({ '/profiles': { items: [{ profile: both }], next: null }, ...images })

t.test('an image is tried with its partner for the same processor', async (t) => {
  const cases: [candidate: string, stage2: string, stage3: string, arch: string][] = [
    ['small@1', 'small', 'full', 'x86_64'],
    ['full@1', 'small', 'full', 'x86_64'],
    ['small-arm@1', 'small-arm', 'full-arm', 'arm64'],
    ['full-arm@1', 'small-arm', 'full-arm', 'arm64'],
  ]
  for (const [candidate, stage2, stage3, arch] of cases) {
    const pair = await findPair(api, candidateOf(candidate), {})
    t.match(pair, { stage2: { name: stage2 }, stage3: { name: stage3 } }, candidate)
    t.equal(await architectureOfPair(api, pair), arch)
  }
})

t.test('two images for two processors are not booted together', async (t) => {
  const pair = await findPair(api, candidateOf('full-arm@1'), { as: 'stage3', with: 'small@1' })
  await t.rejects(architectureOfPair(api, pair), {
    code: 'usage',
    message: 'small@1 is for x86_64, and full-arm@1 for arm64',
  })
})
