import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { openToldToWait, type ToldToWait } from '../../src/http/told-to-wait.ts'

const begins = new Date('2026-11-21T06:00:00.000Z')

function tell(told: ToldToWait, node: string, site: string, why?: string): void {
  told.note({ node, site, request: 'stage1.ipxe', source: '192.0.2.1', seconds: 30, why })
}

t.test('names that are made up keep no more in memory than themselves', (t) => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const told = openToldToWait(() => begins)
  gc()
  const before = process.memoryUsage().heapUsed
  for (let n = 0; n < 20_000; n += 1) {
    // A URL as long as it may be: Node's strings keep what they are parts of.
    const url = Buffer.alloc(16_000, `/v1/boot/made-up-${n}/stage1.ipxe?`).toString()
    tell(told, url.slice(9, 35), 'x')
  }
  gc()
  const each = (process.memoryUsage().heapUsed - before) / 20_000
  t.comment(`${Math.round(each)} bytes each`)
  t.ok(each < 1000, `${each} bytes each`)
  t.equal(told.stats().nodesWaiting, 20_000)
  t.end()
})

t.test('who comes again waits among the nodes of its own site, not among made-up names of another', (t) => {
  let now = begins
  const told = openToldToWait(() => now)
  for (let n = 0; n < 20_000; n += 1) tell(told, `made-up-${n}`, 'flood')
  for (const node of ['mlab1', 'mlab2', 'mlab3']) tell(told, node, 'site')
  t.equal(told.waitingWith('mlab1', 'site'), 3)
  t.equal(told.waitingWith('made-up-19999', 'flood'), 19_997, 'the oldest gave way')
  t.equal(told.waitingWith('made-up-0', 'flood'), undefined)
  tell(told, 'mlab1', 'site')
  t.equal(told.waitingWith('mlab1', 'site'), 3, 'told twice, it is one')
  tell(told, 'mlab1', 'flood')
  t.equal(told.waitingWith('mlab1', 'site'), 3, 'nor where another says its name')
  t.equal(told.waitingWith('mlab2', 'site'), 2)
  told.came('mlab2')
  told.served('mlab2')
  t.equal(told.waitingWith('mlab3', 'site'), 1)
  now = new Date(begins.getTime() + 30_000 + 300_000)
  t.equal(told.stats().nodesWaiting, 19_999)
  now = new Date(now.getTime() + 1)
  t.equal(told.stats().nodesWaiting, 0, 'who does not come does not wait any more')
  tell(told, 'mlab3', 'site')
  t.equal(told.waitingWith('mlab3', 'site'), 1, 'and counts no more')
  t.end()
})

t.test('a join that waits for its cluster waits with nobody', (t) => {
  const told = openToldToWait(() => begins)
  tell(told, 'mlab1', 'site', 'its cluster is down')
  tell(told, 'mlab2', 'site')
  t.same([told.waitingWith('mlab1', 'site'), told.waitingWith('mlab2', 'site')], [undefined, 1])
  told.came('mlab1')
  t.same([told.stats().nodes.length, told.stats().nodesWaiting], [2, 1])
  told.served('mlab1')
  t.equal(told.waitingWith('mlab2', 'site'), 1)
  t.end()
})

t.test('a clock that jumps loses nobody who waits, and tells of no overload that goes on for ever', (t) => {
  let now = begins
  const told = openToldToWait(() => now)
  const later = (seconds: number): void => {
    now = new Date(now.getTime() + seconds * 1000)
  }
  tell(told, 'mlab1', 'site')
  told.takeSpells()
  later(-3600)
  t.match(told.stats(), { nodesWaiting: 1, overloadedSince: begins.toISOString() })
  tell(told, 'mlab1', 'site')
  t.same(told.takeSpells(), [], 'the same overload')
  later(60)
  t.match(told.takeSpells(), [{ until: '2026-11-21T05:00:00.000Z', times: 2 }])
  later(330)
  t.equal(told.stats().nodesWaiting, 0)
  t.end()
})
