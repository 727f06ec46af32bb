import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import { addSeconds } from '../../src/domain/clock.ts'
import { initPawl } from '../../src/init.ts'
import { createLog } from '../../src/log.ts'
import { openAuthority } from '../../src/pki/authority.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { type RunningServer, startServer } from '../../src/server.ts'
import { run as runCommand } from '../cli/helpers/installation.ts'
import {
  ask,
  type EpoxyClientOptions,
  type EpoxyRun,
  type EpoxyStep,
  runEpoxyClient,
} from '../helpers/epoxy-client.ts'
import { freePort } from '../helpers/ports.ts'

/**
 * A fleet of ePoxy moves: its host records become fleet files, those are applied, and machines boot by a stand-in for `epoxy_client`
 * (test/helpers/epoxy-client.ts) against a whole server. The clock is the test's: the client's 60 s pass at once.
 */

const kernel = Buffer.from('a kernel')
const sha256 = createHash('sha256').update(kernel).digest('hex')

interface Fleet {
  readonly server: RunningServer
  readonly dataDir: string
  readonly ca: string
  readonly log: string[]
  /** What the user's own web server was asked for. */
  readonly asked: string[]
  wait(seconds: number): void
  cli(...argv: string[]): Promise<string>
  /** What the medium of a machine has. */
  medium(host: number): EpoxyClientOptions
  /** Every text that is kept or shown anywhere. */
  everywhere(): Promise<string>
}

const nameOf = (host: number): string => `mlab${host}.lga0t.example.org`

async function moved(t: Test, hosts: number): Promise<Fleet> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-epoxy-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const dataDir = join(folder, 'data')
  let now = new Date() // TLS looks at the real clock
  await initPawl({ dataDir, database: join(dataDir, 'pawl.db'), publicUrl: undefined, names: [], now })
  const ca = readFileSync(join(dataDir, 'ca.crt'), 'utf8')
  const storage = await serveStorage(t, dataDir)
  const port = await freePort()
  const log: string[] = []
  const server = await startServer({
    config: loadConfig({
      flags: {
        ...{ data: dataDir, bootListen: `127.0.0.1:${port}`, operatorListen: '127.0.0.1:0' },
        publicUrl: `https://127.0.0.1:${port}`,
        extensionAllowedNetworks: ['127.0.0.0/8'],
      },
      env: {},
      fileName: 'none',
    }),
    clock: () => now,
    log: createLog('trace', { write: (line: string) => void log.push(line) }),
    hostName: 'boot-server',
    processId: 1,
    templatesFolder: join(import.meta.dirname, '../../ipxe-templates'),
  })
  t.teardown(() => server.close())
  const cli = async (...argv: string[]): Promise<string> => {
    const ran = await runCommand(argv, { env: { PAWL_DATA: dataDir } }, () => now)
    t.equal(ran.exit, 0, `pawl ${argv.join(' ')} ${ran.stderr}`)
    return ran.stdout
  }
  writeFileSync(
    join(folder, 'hosts'),
    Array.from({ length: hosts }, (_, host) => record(host, storage.url)).join(''),
  )
  await cli('import', 'epoxy', join(folder, 'hosts'), '--out', join(folder, 'fleet'))
  await cli('apply', '-f', join(folder, 'fleet'), '--yes')
  await cli('diff', '-f', join(folder, 'fleet'), '--exit-code')
  // The URL of the service is in no record: the importer leaves a file to fill in.
  const service = join(folder, 'fleet', 'allocate_k8s_token.extension')
  const written = readFileSync(service, 'utf8')
  writeFileSync(service, written.replace(/^url:.*$/m, `url: ${storage.url}/v2/allocate_k8s_token`))
  await cli('extension', 'apply', '-f', service, '--ca', join(dataDir, 'ca.crt'))
  return {
    ...{ server, dataDir, ca, log, asked: storage.asked, cli },
    wait: (seconds) => {
      now = addSeconds(now, seconds)
    },
    medium: (host) => ({
      ca,
      localAddress: `127.0.0.${10 + host}`,
      kargs: {
        'epoxy.stage1': `${server.ready.publicUrl}/v1/boot/${nameOf(host)}/stage1.json`,
        marker: 'from-the-medium',
      },
    }),
    everywhere: async () => {
      const shown = [await cli('event', 'list', '--json'), await cli('node', 'list', '--json')]
      for (let host = 0; host < hosts; host++) {
        shown.push(await cli('node', 'show', nameOf(host), '--json'))
        shown.push(await cli('node', 'timeline', nameOf(host), '--json'))
      }
      const files = readdirSync(dataDir).filter((name) => name.startsWith('pawl.db'))
      return [...shown, ...log, ...files.map((name) => readFileSync(join(dataDir, name), 'latin1'))].join(
        '\n',
      )
    },
  }
}

function record(host: number, storage: string): string {
  const urls = {
    'stage1.ipxe': `${storage}/{{VERSION}}/stage1to2.ipxe`,
    'stage1.json': `${storage}/{{VERSION}}/stage1to2.json`,
    stage2: `${storage}/{{VERSION}}/stage2to3.json`,
    stage3: `${storage}/{{VERSION}}/stage3.json`,
  }
  const one = {
    Name: nameOf(host),
    IPv4Addr: `127.0.0.${10 + host}`,
    Boot: urls,
    Update: urls,
    ImagesVersion: 'v2.1.6',
    UpdateEnabled: false,
    Extensions: ['allocate_k8s_token'],
    CurrentSessionIDs: { Stage2ID: 'AAAAAAAAAAAAAAAAAAAAAAAAAAA' },
    LastSuccess: '2020-01-01T00:00:00Z',
  }
  return `Listing: ${one.Name}\n${JSON.stringify(one, null, 4)}\n`
}

const kexec = ['/sbin/kexec', '--command-line={{.vars.cmdline}}', '{{.files.vmlinuz.name}}']
const handedOver = ['report', 'stage2', 'stage3', 'allocate_k8s_token'].map(
  (name) => `epoxy.${name}={{kargs \`epoxy.${name}\`}}`,
)
const files = { vmlinuz: { url: '{{kargs `storage`}}', sha256 } }

const clusterToken = 'abcdef.0123456789abcdef'

/** The fleet's own extension service, as it was: it takes ePoxy's body, and says what joins the cluster. */
async function allocate(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const { v1 } = JSON.parse(String(Buffer.concat(chunks))) as { v1: Record<string, string> }
  const asks =
    v1.hostname?.endsWith('.lga0t.example.org') === true && v1.ipv4_address?.startsWith('127.0.0.') === true
  const body = { api_address: 'api.example.org:6443', token: clusterToken, ca_hash: 'sha256:00' }
  response.writeHead(asks ? 200 : 400, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

/** The documents of the fleet, where they always were: a web server that answers HEAD and ranges. */
async function serveStorage(t: Test, dataDir: string): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = []
  const authority = openAuthority(dataDir)
  const tls = await loadTls(authority, { kind: 'boot', names: ['127.0.0.1'], now: new Date() })
  const server = createServer(tls.options(), (request, response) => {
    const { method, url = '', headers } = request
    if (method === 'POST' && url === '/v2/allocate_k8s_token') return void allocate(request, response)
    asked.push(`${method} ${url} ${headers.range ?? ''}`.trim())
    const stage = (document: object): Buffer => Buffer.from(JSON.stringify({ v1: document }))
    const kernelUrl = { vmlinuz: { ...files.vmlinuz, url: `${base()}/kernel` } }
    const bodies: Readonly<Record<string, Buffer>> = {
      '/v2.1.6/stage1to2.json': stage({ vars: { cmdline: handedOver }, files: kernelUrl, commands: [kexec] }),
      // A chain behind the chain, and a comment: both are ePoxy's.
      '/v2.1.6/stage2to3.json': stage({ chain: `${base()}/v2.1.6/next.json` }),
      '/v2.1.6/next.json': stage({
        vars: { cmdline: ['net.ifnames=0', ...handedOver] },
        files: kernelUrl,
        commands: ['# the next kernel', kexec],
      }),
      '/v2.1.6/stage3.json': stage({
        env: { PATH: '/bin' },
        commands: ['/usr/bin/setup --now', '/usr/bin/join {{kargs `epoxy.allocate_k8s_token`}}'],
      }),
      '/kernel': kernel,
    }
    const body = bodies[url]
    if (body === undefined) return void response.writeHead(404).end()
    response.setHeader('accept-ranges', 'bytes').setHeader('content-length', body.length)
    response.statusCode = method === 'GET' && headers.range !== undefined ? 206 : 200
    response.end(method === 'HEAD' ? undefined : body)
  }).listen(0, '127.0.0.1')
  const base = (): string => `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return { url: base(), asked }
}

interface Booted {
  readonly runs: readonly EpoxyRun[]
  /** The URLs that stage 1 gave. */
  readonly kargs: Readonly<Record<string, string>>
  /** The commands that ran, kexec's among them. */
  readonly ran: readonly (readonly string[])[]
}

/**
 * A machine boots: three runs of the client, of which two end in a kexec that hands the kernel arguments over. At stage 1 its medium
 * repeats `epoxy_client -no-retry`: within one run the client keeps the kernel arguments it was given first, and so the URLs of a
 * session that the next stage 1 has retired.
 */
async function boot(
  fleet: Fleet,
  host: number,
  {
    lose,
    fail,
  }: {
    lose?: (step: EpoxyStep) => 'request' | 'answer' | undefined
    fail?: (argv: readonly string[]) => void
  } = {},
): Promise<Booted> {
  const runs: EpoxyRun[] = []
  const ran: (readonly string[])[] = []
  const joinCluster = async (url: string): Promise<undefined> => {
    const answer = await ask({ ...fleet.medium(host), ...(lose && { lose }) }, 'POST', url)
    if (answer.status !== 200) throw new Error(`the extension answered ${answer.status}`)
    if (JSON.parse(String(answer.body)).token !== clusterToken) throw new Error('no token')
  }
  let kargs = fleet.medium(host).kargs
  let kargsOfStage1: Readonly<Record<string, string>> = {}
  for (const action of ['stage1', 'stage2', 'stage3'] as const) {
    let commandLine: string | undefined
    const options: Parameters<typeof runEpoxyClient>[0] = {
      ...fleet.medium(host),
      ...{ kargs, action, wait: fleet.wait, noRetry: action === 'stage1', giveUpAfterSeconds: 300 },
      ...(lose && { lose }),
      command: (argv, bytes) => {
        ran.push(argv)
        fail?.(argv)
        if (argv[0] === '/usr/bin/join') return joinCluster(argv[1] ?? '')
        if (argv[0] !== '/sbin/kexec') return undefined
        if (bytes[argv[2] ?? '']?.equals(kernel) !== true) throw new Error('no kernel')
        commandLine = argv[1]?.replace('--command-line=', '')
        return 'gone'
      },
    }
    let one = await runEpoxyClient(options)
    if (action === 'stage1' && one.outcome === 'gave-up') {
      runs.push(one)
      fleet.wait(60)
      one = await runEpoxyClient(options)
    }
    runs.push(one)
    if (action === 'stage1') kargsOfStage1 = one.kargs
    if (commandLine === undefined) break
    kargs = Object.fromEntries(commandLine.split(' ').map((word) => word.split(/=(.*)/s).slice(0, 2)))
  }
  return { runs, ran, kargs: kargsOfStage1 }
}

const stateOf = async (fleet: Fleet, host: number): Promise<string> =>
  JSON.parse(await fleet.cli('node', 'show', nameOf(host), '--json')).state

const tokenOf = (url: string): string => new URL(url).pathname.split('/')[4] ?? ''

t.test('the fleet boots through all stages, and nothing of its URLs is kept or shown', async (t) => {
  const fleet = await moved(t, 2)
  const booted = await boot(fleet, 0)
  t.same(
    booted.runs.map(({ outcome, attempts }) => [outcome, attempts]),
    [
      ['gone', 1],
      ['gone', 1],
      ['success', 1],
    ],
  )
  t.same(booted.runs[2]?.reports, [{ message: 'success', status: 204 }])
  t.same(booted.ran.slice(-2), [
    ['/usr/bin/setup', '--now'],
    ['/usr/bin/join', booted.kargs['epoxy.allocate_k8s_token']],
  ])
  t.same(
    fleet.asked,
    [
      '/v2.1.6/stage1to2.json',
      '/kernel',
      '/v2.1.6/stage2to3.json',
      '/v2.1.6/next.json',
      '/kernel',
      '/v2.1.6/stage3.json',
    ].flatMap((path) => [`HEAD ${path}`, `GET ${path} bytes=0-`]),
  )
  t.equal(await stateOf(fleet, 0), 'ready')
  t.equal(await stateOf(fleet, 1), 'registered')

  t.test('what is asked again after success gets nothing', async (t) => {
    for (const name of ['stage2', 'stage3', 'report']) {
      const body = name === 'report' ? 'message=success' : ''
      const answer = await ask(fleet.medium(0), 'POST', booted.kargs[`epoxy.${name}`] ?? '', formHeader, body)
      t.equal(answer.status, 403, name)
    }
    const token = await ask(fleet.medium(0), 'POST', booted.kargs['epoxy.allocate_k8s_token'] ?? '')
    t.same([token.status, token.body.includes(clusterToken)], [403, false], 'the extension')
    const late = await ask(
      fleet.medium(0),
      'POST',
      booted.kargs['epoxy.report'] ?? '',
      formHeader,
      'message=error: late',
    )
    t.equal(late.status, 204, 'a late error is taken note of')
    t.equal(await stateOf(fleet, 0), 'ready', 'and changes nothing')
  })

  t.test("another machine's URL, and another place's, get nothing", async (t) => {
    const next = await boot(fleet, 1, { fail: failAt('/usr/bin/setup') })
    t.equal(next.runs.at(-1)?.outcome, 'gave-up')
    const fresh = await boot(fleet, 1, { lose: ({ name }) => (name === 'stage2' ? 'request' : undefined) })
    const url = fresh.kargs['epoxy.stage2'] ?? ''
    t.equal((await ask(fleet.medium(0), 'POST', url, formHeader)).status, 403, 'from another address')
    const renamed = url.replace(nameOf(1), nameOf(0))
    t.equal((await ask(fleet.medium(0), 'POST', renamed, formHeader)).status, 403, 'under another name')
    t.not(await stateOf(fleet, 1), 'ready')
  })

  const everywhere = await fleet.everywhere()
  for (const name of ['stage2', 'stage3', 'report', 'allocate_k8s_token']) {
    const token = tokenOf(booted.kargs[`epoxy.${name}`] ?? '')
    t.equal(token.length, 44)
    t.notOk(everywhere.includes(token.slice(12)), `${name} is in no file, log, event or answer`)
  }
  t.notOk(everywhere.includes(clusterToken), 'what the service answers is not kept')
  t.notOk(everywhere.includes('from-the-medium'), 'debug.config is not kept')
})

const formHeader = { 'content-type': 'application/x-www-form-urlencoded' }

const failAt =
  (command: string) =>
  (argv: readonly string[]): void => {
    if (argv[0] === command) throw new Error('disk')
  }

t.test('what is lost on its way at any step costs a minute, and no boot', async (t) => {
  // Every request of a boot, in its order, and what the loss of it or of its answer comes to.
  const steps = [
    'stage1.json',
    'stage1to2.json',
    'kernel',
    'stage2',
    'stage2to3.json',
    'next.json',
    'stage3',
    'stage3.json',
    'allocate_k8s_token',
  ]
  const cases = steps.flatMap((name) => (['request', 'answer'] as const).map((what) => ({ name, what })))
  const fleet = await moved(t, cases.length + 2)
  for (const [host, { name, what }] of cases.entries()) {
    let left = 1
    const booted = await boot(fleet, host, {
      lose: (step) => (step.name === name && left-- > 0 ? what : undefined),
    })
    const attempts = booted.runs.reduce((sum, run) => sum + run.attempts, 0)
    t.equal(attempts, 4, `${what} of ${name}`)
    t.equal(booted.runs.at(-1)?.outcome, 'success', `${what} of ${name}`)
    t.equal(await stateOf(fleet, host), 'ready', `${what} of ${name}`)
  }
  const report = ({ message }: EpoxyStep): boolean => message === 'success'
  const unheard = await boot(fleet, cases.length, { lose: (step) => (report(step) ? 'answer' : undefined) })
  t.same(unheard.runs[2]?.reports, [{ message: 'success', status: 0 }])
  t.equal(await stateOf(fleet, cases.length), 'ready', 'a success whose answer is lost is one')
  const untold = await boot(fleet, cases.length + 1, {
    lose: (step) => (report(step) ? 'request' : undefined),
  })
  t.equal(untold.runs[2]?.outcome, 'success')
  t.equal(
    await stateOf(fleet, cases.length + 1),
    'booting',
    'epoxy_client says it once: what never came is not known',
  )
  fleet.wait(2 * 3600 + 1)
  await fleet.server.maintain()
  t.equal(await stateOf(fleet, cases.length + 1), 'failed', 'and the boot runs out')
})

t.test('a stage that fails is asked again each minute, and each failure is on record', async (t) => {
  const fleet = await moved(t, 1)
  let failures = 3
  const booted = await boot(fleet, 0, {
    fail: (argv) => {
      if (argv[0] === '/usr/bin/setup' && failures-- > 0) throw new Error('no network yet')
    },
  })
  t.match(booted.runs[2], { outcome: 'success', attempts: 4 })
  t.same(
    booted.runs[2]?.reports.map(({ status }) => status),
    [204, 204, 204, 204],
  )
  const events = JSON.parse(await fleet.cli('event', 'list', '--kind', 'attempt-failed', '--json')).items
  t.same(
    events.map(({ detail }: { detail: { message: string } }) => detail.message),
    Array(3).fill('error: no network yet'),
  )
  const gaveUp = await boot(fleet, 0, { fail: failAt('/usr/bin/setup') })
  t.match(gaveUp.runs.at(-1), { outcome: 'gave-up', attempts: 6 })
  t.not(await stateOf(fleet, 0), 'ready')
})

t.test('within one run at stage 1 the client keeps the URLs of a session that is over by then', async (t) => {
  const fleet = await moved(t, 1)
  let left = 1
  const options = fleet.medium(0)
  const first = await runEpoxyClient({
    ...{ ...options, action: 'stage1', wait: fleet.wait, command: () => 'gone' },
    lose: ({ name }) => (name === 'stage1to2.json' && left-- > 0 ? 'answer' : undefined),
  })
  t.match(first, { outcome: 'gone', attempts: 2 })
  const second = await runEpoxyClient({
    ...{ ...options, kargs: first.kargs, action: 'stage2', wait: fleet.wait, noRetry: true },
  })
  t.match(second.reports, [{ message: 'error: Bad status code: got 403, expected 200 code' }])
  const again = await boot(fleet, 0)
  t.equal(again.runs.at(-1)?.outcome, 'success', 'a boot from its medium goes through')
})
