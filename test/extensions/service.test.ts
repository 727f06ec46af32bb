import t from 'tap'
import type { BootContext } from '../../src/boot/context.ts'
import type { ExtensionOutcome } from '../../src/boot/extension.ts'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { openExtensionService, questionLimits } from '../../src/extensions/service.ts'
import { extensionPlace } from '../../src/fleet/extension-view.ts'

t.test('services that hang leave a part of the boot work to boots, however little there is', async (t) => {
  const table: [maxBootWork: number, all: number, ofOperation: number][] = [
    [2, 1, 1],
    [3, 2, 1],
    [4, 3, 1],
    [8, 6, 2],
    [16, 12, 4],
    [63, 47, 16],
    [64, 48, 16],
    [10_000, 48, 16],
  ]
  for (const [maxBootWork, all, ofOperation] of table) {
    t.same(questionLimits(maxBootWork), { all, ofOperation, ofSession: 1 }, String(maxBootWork))
    t.ok(all < maxBootWork)
  }
})

const sealer = settingsSealer(Buffer.alloc(32, 7))
const row = (operation: string) => ({
  ...{ operation, timeout_seconds: 25, max_answer_bytes: 1000, answer_types: '[]', ca: null },
  ...{
    client_certificate: null,
    client_key: null,
    revision: 1,
    created_at: '',
    created_by: '',
    updated_at: '',
  },
  url: sealer.seal('https://service.example.com/', extensionPlace(operation, 'url')),
})

t.test('each bound is reached, told by its name, and has room again when a question is over', async (t) => {
  let answer = (_addresses: readonly string[]): void => {}
  const hanging = new Promise<readonly string[]>((resolve) => {
    answer = resolve
  })
  const service = openExtensionService({ maxBootWork: 8, resolve: () => hanging })
  const context = {
    sealer,
    randomBytes: (size: number) => new Uint8Array(size),
    settings: { extensionAllowedNetworks: [] },
  } as unknown as BootContext // nothing else is asked for before an address is known
  const v1 = { hostname: '', ipv4Address: '', ipv6Address: '', lastBoot: new Date(0), rawQuery: '' }
  const ask = (session: string, operation: string): Promise<ExtensionOutcome> =>
    service.ask(context, { extension: row(operation), node: 'n', session, v1 })
  const busy = (reason: string): object => ({ kind: 'failed', fault: 'busy', reason })
  const under = [ask('s1', 'a'), ask('s2', 'a')]
  t.same(await ask('s1', 'a'), busy('this boot asks for it already'))
  t.same(await ask('s3', 'a'), busy('as many boots as may ask for it'))
  under.push(ask('s3', 'b'), ask('s4', 'b'), ask('s5', 'c'), ask('s6', 'c'))
  t.same(await ask('s7', 'd'), busy('as many boots as may ask for extensions'))
  answer([])
  for (const outcome of await Promise.all(under)) t.match(outcome, { fault: 'not-allowed' })
  t.match(await ask('s7', 'd'), { fault: 'not-allowed' })
})
