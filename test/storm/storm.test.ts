import { readFileSync } from 'node:fs'
import t from 'tap'
import { mayRun } from '../../src/storm/cleanup.ts'
import type { StormResult } from '../../src/storm/result.ts'
import { run } from '../cli/helpers/installation.ts'
import { openSite, type Ran } from './installation.ts'

const quick = ['--image-mib', '1', '--think', '0.1', '--hurry', '20']

function resultOf({ stdout }: Ran): StormResult {
  return JSON.parse(stdout) as StormResult
}

t.test('what is no storm is refused before anything is asked', async (t) => {
  const wrong: readonly (readonly [string, RegExp])[] = [
    ['storm', /required option '--nodes <N>'/],
    ['storm --nodes 0', /from 1 to 50000/],
    ['storm --nodes 50001', /from 1 to 50000/],
    ['storm --nodes many', /whole number/],
    ['storm --nodes 1 --arrival soon', /number from 0 to 86400/],
    ['storm --nodes 1 --image-mib 0', /from 1 to 16384/],
    ['storm --nodes 1 --workers 65', /from 1 to 64/],
    ['storm --nodes 1 --resume maybe', /Allowed choices are on, off, both/],
    ['storm --nodes 1 --connections none', /Allowed choices are pool, each/],
    ['storm --nodes 1 --certificate dsa', /Allowed choices are rsa, ecdsa/],
    ['storm --nodes 1 --cipher aes;rm', /names of suites/],
    ['storm --nodes 1 --pieces 65', /from 1 to 64/],
    ['storm --nodes 1 --lose-answers 101', /from 0 to 100/],
    ['storm --nodes 1 --hurry 0', /from 1 to 1000/],
    ['storm --nodes 1 --give-up 0', /from 1 to 86400/],
    ['storm --nodes 1 --evidence tpm', /Allowed choices are auto, address, secret/],
    ['storm --nodes 1 --server-pid x', /whole number/],
    ['storm --nodes 1 rain', /too many arguments/],
    ['storm --nodes 1', /no server is named/],
    ['storm clean', /no server is named/],
  ]
  for (const [line, message] of wrong) {
    const { exit, stdout, stderr } = await run(line.split(' '))
    t.same([exit, stdout], [2, ''], line)
    t.match(stderr, message, line)
  }
})

t.test('a storm on a real server', async (t) => {
  const site = await openSite(t)
  const { api } = site
  await api.create('/nodes', { name: 'mlab1', labels: { 'pawl-storm': 'aaaaaa' }, addresses: ['192.0.2.1'] })
  const before = await site.everything()

  await t.test('boots every node through every stage, whatever is lost, and leaves nothing', async (t) => {
    const flags = ['--lose-answers', '20', '--power-cycles', '40', '--cut-downloads', '20', '--pieces', '3']
    const ran = await site.pawl(['storm', '--nodes', '20', '--workers', '2', ...quick, ...flags, '--json'])
    t.equal(ran.exit, 0, ran.stderr)
    const result = resultOf(ran)
    t.match(result, {
      ok: true,
      nodes: 20,
      ready: 20,
      evidence: 'address',
      failures: {},
      records: { honoured: true },
      truth: { ready: 20, faults: [], faultCount: 0 },
      client: { processes: 2 },
      notReady: [],
    })
    t.ok(result.powerCycles > 0, `${result.powerCycles} power cycles`)
    t.ok((result.truth?.repeated ?? 0) > 0, 'lost answers were given again')
    const count = new Map(result.steps.map(({ step, count }) => [step, count]))
    t.equal(count.get('report'), 20, 'each node has one success')
    t.ok((count.get('stage1') ?? 0) >= 20, 'stage 1 was asked by each')
    t.equal(result.server?.processes, 1)
    t.ok((result.server?.cpuSeconds ?? 0) > 0, 'the CPU of the server is known')
    t.ok(result.bytes >= 20 * 1024 * 1024, `${result.bytes} bytes`)
    t.same(await site.everything(), before, 'the server has what it had before, and nothing else')
    t.match(await api.get('/events/verify'), { ok: true })
  })

  await t.test('nodes behind one address have secrets, and resume TLS sessions by halves', async (t) => {
    const how = [
      '--evidence',
      'secret',
      '--connections',
      'each',
      '--resume',
      'both',
      '--certificate',
      'ecdsa',
    ]
    const ran = await site.pawl(['storm', '--nodes', '4', ...quick, ...how, '--json'])
    t.equal(ran.exit, 0, ran.stderr)
    const result = resultOf(ran)
    t.match(result, { ok: true, evidence: 'secret' })
    const resumed = result.steps.find(({ step }) => step === 'handshake-resumed')
    // Two of four nodes; of their six requests as firmware all but the first.
    t.equal(resumed?.count, 2 * 5)
  })

  await t.test('a suite that the server does not have fails by name, and all is removed', async (t) => {
    const how = ['--cipher', 'PSK-AES128-CBC-SHA', '--give-up', '10', '--json']
    const ran = await site.pawl(['storm', '--nodes', '2', ...quick, ...how])
    t.equal(ran.exit, 1)
    t.match(ran.stderr, /error: 2 of 2 nodes did not become ready/)
    const result = resultOf(ran)
    t.match(result, {
      ok: false,
      ready: 0,
      notReady: [{ cause: 'the storm ended while it was at stage1' }, {}],
    })
    t.ok(Object.keys(result.failures).length > 0, 'the failure has a name')
    t.same(await site.everything(), before)
  })

  await t.test('a token without the rights makes nothing', async (t) => {
    for (const role of ['viewer', 'operator', 'publisher']) {
      const { token } = await api.create<{ token: string }>('/operator-tokens', { name: role, role })
      const env = { PAWL_URL: site.url, PAWL_TOKEN: token, PAWL_CA: `${site.dataDir}/ca.crt` }
      const { exit, stderr } = await run(['storm', '--nodes', '1'], { env })
      t.equal(exit, 1)
      t.match(stderr, `error: a storm needs the role admin; ${role} has ${role}`)
    }
    t.same(await site.everything(), before)
  })

  await t.test('Ctrl-C ends it, and what it made is removed', async (t) => {
    const ran = await site.pawl(['storm', '--nodes', '20', '--think', '60'], (line, child) => {
      if (/nodes power on$/.test(line)) child.kill('SIGINT')
    })
    t.equal(ran.exit, 1)
    t.match(ran.stderr, /error: the storm was ended before its nodes were through/)
    t.same(await site.everything(), before)
  })

  await t.test('what a killed storm left is shown, and removed with --yes', async (t) => {
    const ran = await site.pawl(['storm', '--nodes', '20', '--think', '60'], (line, child) => {
      if (/nodes power on$/.test(line)) child.kill('SIGKILL')
    })
    t.equal(ran.exit, null)
    const shown = await site.pawl(['storm', 'clean', '--json'])
    const { storms, applied } = JSON.parse(shown.stdout)
    t.equal(applied, false)
    t.match(storms, [{ nodes: 21, profile: true, images: [/-stage2@1$/, /-stage3@1$/], kept: true }])
    const later = Date.parse(storms[0].seenAt) + 600_000
    t.same([mayRun(storms[0], new Date(later - 1)), mayRun(storms[0], new Date(later))], [true, false])
    t.equal((await site.everything()).nodes.length, 22, 'nothing was done')
    const other = await site.pawl(['storm', 'clean', 'zzzzzz', '--yes'])
    t.equal(other.stdout, 'no storm has left anything')
    const all = await site.pawl(['storm', 'clean', '--yes'])
    t.equal(all.stdout, `left storm ${storms[0].id}: 21 nodes, 2 images`, 'one that may still run elsewhere')
    t.match(all.stderr, /may still run: if it does not, pawl storm clean \w{6} --yes/)
    t.equal((await site.everything()).nodes.length, 22)
    const removed = await site.pawl(['storm', 'clean', storms[0].id, '--yes'])
    t.equal(removed.stdout, `removed storm ${storms[0].id}: 21 nodes, 2 images`)
    t.same(await site.everything(), before)
  })

  await t.test('what does not have the mark is never touched', async (t) => {
    const set = { set: 'storm-abc123', profiles: [], channels: [] }
    await api.post('/fleet', {
      ...set,
      nodes: [
        { name: 'storm-abc123-00001', labels: { 'pawl-storm': 'abc123' } },
        { name: 'mlab2', labels: { 'pawl-storm': 'abc123' } },
        { name: 'storm-abc123-00002', labels: { site: 'lga' } },
      ],
    })
    const there = await site.everything()
    const { exit, stderr } = await site.pawl(['storm', 'clean', 'abc123', '--yes'])
    t.equal(exit, 1)
    t.match(
      stderr,
      /error: node "mlab2", node "storm-abc123-00002" in the set "storm-abc123" without the label/,
    )
    t.match(stderr, /hint: nothing was removed/)
    t.same(await site.everything(), there)
    await api.post('/fleet', { ...set, nodes: [], prune: true, allowMassRemoval: true })
  })
})

t.test(
  'a server that is killed in the middle and started again loses nothing that it had answered',
  async (t) => {
    const site = await openSite(t)
    let killing: Promise<void> | undefined
    const slow = ['--image-mib', '1', '--think', '1.5', '--hurry', '20', '--arrival', '2']
    const ran = await site.pawl(['storm', '--nodes', '30', ...slow, '--json'], (line) => {
      if (/nodes power on$/.test(line))
        killing = new Promise((resolve) => setTimeout(resolve, 2500)).then(site.killAndRestart)
    })
    await killing
    t.equal(ran.exit, 0, ran.stderr)
    const result = resultOf(ran)
    t.match(result, { ok: true, ready: 30, truth: { ready: 30, faultCount: 0 }, server: { restarts: 1 } })
    t.ok(
      ['connection refused', 'connection reset'].some((kind) => kind in result.failures),
      JSON.stringify(result.failures),
    )
    t.ok(result.retries > 0)
    t.match(await site.api.get('/events/verify'), { ok: true })
    t.same(await site.everything(), { nodes: [], profiles: [], images: [], sets: [] })
  },
)

t.test('a server that has no room says when to come again, and every node waits as long', async (t) => {
  const site = await openSite(t, [
    '--max-boot-work',
    '1',
    '--max-boot-queue',
    '0',
    '--max-retry-after-seconds',
    '5',
  ])
  const { url, dataDir } = site
  const env = {
    PAWL_URL: url,
    PAWL_TOKEN: readFileSync(`${dataDir}/admin.token`, 'utf8').trim(),
    PAWL_CA: `${dataDir}/ca.crt`,
  }
  const ran = await site.pawl(['storm', '--nodes', '20', ...quick, '--json'], () => {}, env)
  t.equal(ran.exit, 0, ran.stderr)
  const result = resultOf(ran)
  t.match(result, { ok: true, ready: 20, failures: {}, truth: { faultCount: 0 } })
  t.ok(result.busy.answers > 0, `${result.busy.answers} times 503`)
  t.ok(result.busy.seconds >= result.busy.answers, 'each said for how long')
  t.ok(result.retries >= result.busy.answers)
  t.match(result.server, { source: 'status' }, 'without the data folder the server tells of itself')
})
