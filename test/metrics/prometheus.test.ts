import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import pino from 'pino'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config.ts'
import { refusalCauses } from '../../src/domain/refusal.ts'
import { nodeTransitions, sessionTransitions } from '../../src/domain/state.ts'
import { issueSecret } from '../../src/fleet/secrets.ts'
import { handshakeCauses } from '../../src/handshake/diagnosis.ts'
import { initPawl } from '../../src/init.ts'
import { type Metric, metricTables } from '../../src/metrics/table.ts'
import { startServer } from '../../src/server.ts'
import { storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { freePort } from '../helpers/ports.ts'
import { openAt } from '../helpers/world.ts'

/** What ships for Prometheus and Grafana, held against the metrics that there are, and tried with the real programs. */
const deploy = join(import.meta.dirname, '../../deploy')
const read = (file: string): string => readFileSync(join(deploy, file), 'utf8')
const metrics = new Map<string, Metric>(Object.values(metricTables).flatMap((table) => Object.entries(table)))

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: Record<string, string>
  readonly annotations: Record<string, string>
}
const rules = parse(read('prometheus/pawl-alerts.yml')).groups.flatMap(
  (group: { rules: Rule[] }) => group.rules,
) as Rule[]
const dashboard = JSON.parse(read('grafana/pawl.json')) as {
  panels: { title: string; targets?: { expr: string }[] }[]
}
const queries: [string, string][] = [
  ...rules.map(({ alert, expr }): [string, string] => [alert, expr]),
  ...dashboard.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }): [string, string] => [
      title,
      expr.replaceAll('$__rate_interval', '5m').replaceAll('$job', 'pawl'),
    ]),
  ),
]

/** Names and matchers in a query: `name{label="value",…}`, without what PromQL itself says. */
function usesOf(expr: string): { name: string; matchers: [string, string][] }[] {
  return [...expr.matchAll(/\b((?:pawl|epoxy|process|nodejs)_\w+)(?:\{([^}]*)\})?/g)].map(
    ([, name = '', inside = '']) => ({
      name,
      matchers: [...inside.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"/g)].map(
        ([, label = '', value = '']) => [label, value],
      ),
    }),
  )
}

/** The metric of a series' name: histograms have three. */
function metricOf(name: string): Metric | undefined {
  const family = name.replace(/_(bucket|sum|count)$/, '')
  return metrics.get(name) ?? (metrics.get(family)?.type === 'histogram' ? metrics.get(family) : undefined)
}

const known: Readonly<Record<string, readonly string[]>> = {
  pawl_nodes: Object.keys(nodeTransitions),
  pawl_sessions: Object.keys(sessionTransitions),
  pawl_refusals_total: Object.keys(refusalCauses),
  pawl_handshake_failures_total: Object.keys(handshakeCauses),
}

t.test(
  'every query of the alerts and the dashboard is of metrics, labels and values that there are',
  async (t) => {
    t.ok(queries.length > 50, `${queries.length} queries`)
    for (const [where, expr] of queries) {
      const uses = usesOf(expr)
      t.ok(uses.length > 0 || expr.includes('up{'), `${where}: ${expr}`)
      for (const { name, matchers } of uses) {
        const metric = metricOf(name)
        t.ok(metric, `${where}: ${name}`)
        for (const [label, value] of matchers) {
          t.ok(
            ['job', 'instance', 'le', ...Object.keys(metric?.labels ?? {})].includes(label),
            `${name}: ${label}`,
          )
          const values = known[name]
          if (values !== undefined && label !== 'job')
            for (const one of value.split('|')) t.ok(values.includes(one), `${where}: ${label}="${one}"`)
        }
      }
    }
  },
)

t.test('every metric but a few is on the dashboard or in an alert', async (t) => {
  const used = new Set(
    queries.flatMap(([, expr]) => usesOf(expr).map(({ name }) => name.replace(/_(bucket|sum|count)$/, ''))),
  )
  const left = [...metrics.keys()].filter((name) => !used.has(name))
  t.same(left.sort(), [
    'epoxy_stage1_total',
    'nodejs_heap_used_bytes',
    'pawl_admission_admitted_total',
    'pawl_artifact_cache_limit_bytes',
    'pawl_build_info',
    'pawl_checkpoint_timestamp_seconds',
    'pawl_event_last_id',
    'pawl_events_total',
    'pawl_nodes_without_series',
    'pawl_proposals',
    'pawl_reinstall_marks',
    'pawl_rollouts',
    'pawl_session_oldest_start_timestamp_seconds',
    'pawl_workers',
    'process_start_time_seconds',
  ])
})

t.test('every alert says what to do, and has a test where it fires and one where it does not', async (t) => {
  const tests = parse(read('prometheus/pawl-alerts.test.yml')).tests as {
    alert_rule_test: { alertname: string; exp_alerts?: unknown[] }[]
  }[]
  const all = tests.flatMap((one) => one.alert_rule_test)
  for (const { alert, labels, annotations } of rules) {
    t.match(labels.severity, /^(critical|warning|info)$/, alert)
    t.match(annotations.action ?? '', /\.$/, alert)
    t.ok(annotations.summary, alert)
    const own = all.filter(({ alertname }) => alertname === alert)
    t.ok(
      own.some(({ exp_alerts: expected }) => (expected?.length ?? 0) > 0),
      `${alert} fires in a test`,
    )
    t.ok(
      own.filter(({ exp_alerts: expected }) => expected === undefined).length >= 2 ||
        alert === 'PawlServerAbsent',
    )
  }
  for (const { alertname } of all)
    t.ok(
      rules.some(({ alert }) => alert === alertname),
      alertname,
    )
})

const absent =
  process.env.PAWL_REQUIRE !== 'all' && !existsSync('/usr/bin/prometheus')
    ? 'prometheus is not installed'
    : undefined
const skip = absent === undefined ? {} : { skip: absent }

t.test(
  'promtool takes rules, configuration and every query, and the tests of the rules pass',
  skip,
  async (t) => {
    const promtool = (...args: string[]): string =>
      execFileSync('promtool', args, { cwd: join(deploy, 'prometheus'), encoding: 'utf8' })
    t.match(promtool('check', 'rules', 'pawl-alerts.yml'), /SUCCESS/)
    t.match(promtool('check', 'config', '--syntax-only', 'prometheus.yml'), /SUCCESS/)
    t.match(promtool('test', 'rules', 'pawl-alerts.test.yml'), /SUCCESS/)
    const file = join(temporary(t), 'queries.yml')
    const recorded = queries.map(([, expr], n) => ({ record: `query:${n}`, expr }))
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'queries', rules: recorded }] }))
    t.match(promtool('check', 'rules', file), new RegExp(`${queries.length} rules found`))
  },
)

t.test(
  'Prometheus scrapes a running server with a token, finds its machines, and an alert fires',
  skip,
  async (t) => {
    const folder = temporary(t)
    const dataDir = join(folder, 'data')
    const now = (): Date => new Date()
    const database = join(dataDir, 'pawl.db')
    await initPawl({ dataDir, database, publicUrl: undefined, names: [], now: now() })
    const world = await openAt(t, database, {})
    await storeDemoFleet(world)
    await storeNode(world, { name: 'node2' })
    const by = { actor: 'operator:ann', source: null, role: 'operator' } as const
    const { secret: foreign } = await issueSecret(world.context, by, 'node2')
    const labels = JSON.stringify({ site: 'fra1', 'rack.row/unit': 'a1' })
    await storeNode(world, {
      name: 'up1',
      state: 'ready',
      labels,
      addresses: [{ address: '192.0.2.7', prefixLength: 32 }],
    })
    const server = await startServer({
      config: loadConfig({
        flags: { data: dataDir, bootListen: '127.0.0.1:0', operatorListen: '127.0.0.1:0' },
        env: {},
        fileName: 'none',
      }),
      clock: now,
      log: pino({ level: 'silent' }),
      hostName: '127.0.0.1',
      processId: 1,
      templatesFolder: join(import.meta.dirname, '../../ipxe-templates'),
    })
    t.teardown(() => server.close())
    const ca = readFileSync(join(dataDir, 'ca.crt'), 'utf8')
    const token = readFileSync(join(dataDir, 'admin.token'), 'utf8').trim()
    const operator = new URL(server.ready.operator)

    t.equal((await get(new URL('/metrics', operator), ca)).status, 401, 'no token, no metrics')
    const text = await get(new URL('/metrics', operator), ca, token)
    t.equal(text.type, 'text/plain; version=0.0.4; charset=utf-8')
    execFileSync('promtool', ['check', 'metrics'], { input: text.body })
    for (const [name, { type }] of metrics)
      if (type === 'counter' && name.startsWith('pawl_') && !/noted|requests|events/.test(name))
        t.match(text.body, new RegExp(`^# TYPE ${name} counter$`, 'm'))

    const prometheus = await startPrometheus(t, { folder, dataDir, operator })
    const ask = async (path: string): Promise<never> =>
      (await fetch(`${prometheus}${path}`)).json() as Promise<never>
    const value = async (query: string): Promise<string | undefined> => {
      const { data } = (await ask(`/api/v1/query?query=${encodeURIComponent(query)}`)) as {
        data: { result: { value: [number, string] }[] }
      }
      return data.result[0]?.value[1]
    }
    await eventually(async () => (await value('up{job="pawl"}')) === '1')
    // Not at once: a scrape that is late on a slow machine takes all of them away for a second.
    await eventually(async () => (await value('pawl_nodes{state="ready"}')) === '1')
    await eventually(async () => (await value('epoxy_last_success{machine="node2"}')) === '0')

    let found: Record<string, string> | undefined
    await eventually(async () => {
      const targets = await targetsOf(ask)
      found = targets[0]
      return targets.length === 1
    })
    t.match(found, {
      __address__: '192.0.2.7:9200',
      __meta_pawl_node: 'up1',
      __meta_pawl_state: 'ready',
      __meta_pawl_site: 'fra1',
      __meta_pawl_label_rack_row_unit: 'a1',
    })

    const boot = new URL(
      `/v1/boot/node1/stage1.ipxe?secret=${encodeURIComponent(foreign)}`,
      server.ready.boot,
    )
    t.equal((await get(boot, ca)).status, 403)
    const firing = async (): Promise<{ labels: Record<string, string> }[]> => {
      const { data } = (await ask('/api/v1/alerts')) as {
        data: { alerts: { state: string; labels: Record<string, string> }[] }
      }
      return data.alerts.filter(({ state }) => state === 'firing')
    }
    const misused = async (): Promise<boolean> =>
      (await firing()).some(
        ({ labels: { alertname, cause } }) =>
          alertname === 'PawlEvidenceMisused' && cause === 'secret-foreign',
      )
    await eventually(misused)
    t.pass('PawlEvidenceMisused fires')
  },
)

/** Asks a program that has no event to wait for, until it says yes; not for ever. */
async function eventually(ask: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1800; tries += 1) {
    if (await ask().catch(() => false)) return // it does not listen yet
    await setTimeout(100)
  }
  throw new Error(`never came true: ${ask}`)
}

type Ask = (path: string) => Promise<never>

async function targetsOf(ask: Ask): Promise<Record<string, string>[]> {
  const { data } = (await ask('/api/v1/targets')) as {
    data: { activeTargets: { scrapePool: string; discoveredLabels: Record<string, string> }[] }
  }
  return data.activeTargets
    .filter(({ scrapePool }) => scrapePool === 'nodes')
    .map(({ discoveredLabels }) => discoveredLabels)
}

/** Starts Prometheus with the shipped configuration, its names and times made a test's; returns its address. */
async function startPrometheus(
  t: Test,
  { folder, dataDir, operator }: { folder: string; dataDir: string; operator: URL },
): Promise<string> {
  const shipped = read('prometheus/prometheus.yml')
  const config = shipped
    .replaceAll('pawl.example.org:8444', operator.host)
    .replaceAll('/etc/prometheus/pawl.token', join(dataDir, 'admin.token'))
    .replaceAll('/etc/prometheus/pawl-ca.crt', join(dataDir, 'ca.crt'))
    .replaceAll('pawl-alerts.yml', join(deploy, 'prometheus/pawl-alerts.yml'))
    .replaceAll(/_interval: 15s|_interval: 1m/g, (text) => text.replace(/\d+\w/, '1s'))
    .replace('port=9100', 'port=9200')
  writeFileSync(join(folder, 'prometheus.yml'), config)
  const port = await freePort()
  const child = spawn(
    'prometheus',
    [
      `--config.file=${join(folder, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(folder, 'tsdb')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    { stdio: 'ignore' },
  )
  t.teardown(async () => {
    const over = once(child, 'exit')
    child.kill('SIGKILL')
    await over
  })
  return `http://127.0.0.1:${port}`
}

function get(url: URL, ca: string, token?: string): Promise<{ status: number; type: string; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const asked = request(url, { ca, headers, agent: false }, (answer) => {
      let body = ''
      answer.setEncoding('utf8').on('data', (chunk) => {
        body += chunk
      })
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, type: answer.headers['content-type'] ?? '', body }),
      )
    })
    asked.on('error', reject).end()
  })
}

function temporary(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-metrics-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
