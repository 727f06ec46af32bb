import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import t from 'tap'

/** The layout of docs/architecture.md as a test: every import of every file is read. */
const root = join(import.meta.dirname, '..')
const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => join('src', name))
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

/** The part of the source that a file belongs to: a folder, or the file itself at the top. */
const partOf = (file: string): string => {
  const [, first = '', second] = file.split('/')
  return second === undefined ? first : first
}

/** What each part may import of ours, besides itself. Everything may import errors.ts and domain. */
const may: Readonly<Record<string, readonly string[]>> = {
  'errors.ts': [],
  domain: [],
  templates: [],
  images: [],
  pki: [],
  dhcp: [],
  ipxe: ['pki'],
  media: ['ipxe', 'pki'],
  tftp: [],
  storage: [],
  'config-values.ts': ['pki'],
  'config-setting.ts': [],
  'config-sign-in.ts': ['config-setting.ts', 'config-values.ts'],
  'config-boot.ts': ['config-setting.ts', 'config-values.ts'],
  'config-delivery.ts': ['config-setting.ts', 'config-values.ts'],
  'config-front.ts': ['config-setting.ts', 'config-values.ts'],
  'config-extensions.ts': ['config-setting.ts', 'config-values.ts'],
  'config-metrics.ts': ['config-setting.ts', 'config-values.ts'],
  'config-limits.ts': ['config-setting.ts', 'config-values.ts'],
  'config-evidence.ts': ['config-setting.ts', 'config-values.ts'],
  'config-identity.ts': ['config-setting.ts', 'config-values.ts'],
  'config-certificates.ts': ['config-setting.ts', 'config-values.ts'],
  'config-joining.ts': ['config-setting.ts', 'config-values.ts'],
  'config-tftp.ts': ['config-setting.ts', 'config-values.ts'],
  'config-traces.ts': ['config-setting.ts', 'config-values.ts'],
  'config-pace.ts': ['config-setting.ts', 'config-values.ts'],
  'config-replicas.ts': ['config-setting.ts', 'config-values.ts'],
  'config-timeline.ts': ['config-setting.ts', 'config-values.ts'],
  'config-workers.ts': ['config-setting.ts', 'config-values.ts'],
  'config-table.ts': [
    'config-pace.ts',
    'config-replicas.ts',
    'config-timeline.ts',
    'config-tftp.ts',
    'config-traces.ts',
    'config-workers.ts',
    'config-certificates.ts',
    'config-boot.ts',
    'config-evidence.ts',
    'config-joining.ts',
    'config-identity.ts',
    'config-delivery.ts',
    'config-front.ts',
    'config-extensions.ts',
    'config-limits.ts',
    'config-metrics.ts',
    'config-setting.ts',
    'config-sign-in.ts',
    'config-values.ts',
  ],
  'config-file.ts': ['config-table.ts', 'config-values.ts'],
  'config.ts': ['config-table.ts', 'config-file.ts', 'config-values.ts'],
  'log-redaction.ts': [],
  'log-lines.ts': [],
  'log.ts': ['log-lines.ts', 'log-redaction.ts'],
  joining: ['kubernetes'],
  boot: ['joining', 'templates', 'images', 'storage'],
  fleet: ['boot', 'kubernetes', 'templates', 'images', 'storage'],
  outgoing: [],
  extensions: ['boot', 'fleet', 'outgoing', 'storage'],
  kubernetes: ['outgoing'],
  webhooks: ['boot', 'fleet', 'outgoing', 'storage'],
  leaving: ['boot', 'fleet', 'kubernetes', 'storage', 'webhooks'],
  traces: ['boot', 'fleet', 'outgoing', 'storage'],
  'open-traces.ts': ['boot', 'config.ts', 'images', 'pki', 'traces'],
  metrics: ['boot', 'handshake', 'storage'],
  'open-metrics.ts': ['boot', 'config.ts', 'metrics', 'storage'],
  handshake: [],
  http: ['boot', 'fleet', 'handshake', 'images', 'ipxe', 'leaving', 'storage', 'webhooks'],
  storm: [],
  cli: ['config-table.ts', 'config-values.ts', 'config.ts', 'dhcp', 'ipxe', 'media', 'pki', 'storm'],
  'init.ts': ['pki', 'storage'],
  web: [],
  workers: ['boot'],
  'listen.ts': ['config.ts', 'pki'],
  'open-roots.ts': ['boot', 'config.ts', 'fleet', 'listen.ts', 'pki'],
  'root-rotation.ts': ['config.ts', 'pki', 'storage'],
  'open-joining.ts': ['config.ts', 'joining'],
  'open-context.ts': [
    'extensions',
    'open-joining.ts',
    'open-roots.ts',
    'boot',
    'config.ts',
    'images',
    'pki',
    'storage',
    'templates',
  ],
  'open-limits.ts': ['config.ts', 'http'],
  'open-tftp.ts': ['boot', 'config.ts', 'ipxe', 'storage', 'tftp'],
  'open-sign-in.ts': ['boot', 'config.ts', 'http', 'pki'],
  'open-artifacts.ts': ['config.ts', 'images', 'pki'],
  backup: ['boot', 'config.ts', 'config-file.ts', 'pki', 'storage'],
  doctor: [
    'extensions',
    'boot',
    'boot',
    'checkpoint-copies.ts',
    'config.ts',
    'config-values.ts',
    'fleet',
    'handshake',
    'ipxe',
    'joining',
    'leaving',
    'open-artifacts.ts',
    'open-traces.ts',
    'pki',
    'replica-marks.ts',
    'storage',
    'templates',
    'tftp',
    'traces',
  ],
  'replica-marks.ts': ['config.ts', 'config-boot.ts', 'ipxe', 'pki'],
  'open-replica.ts': ['config.ts', 'fleet', 'http', 'open-limits.ts', 'replica-marks.ts', 'storage'],
  'open-operator.ts': [
    'boot',
    'config.ts',
    'http',
    'images',
    'ipxe',
    'metrics',
    'open-crew.ts',
    'open-limits.ts',
    'open-metrics.ts',
    'open-replica.ts',
    'open-roots.ts',
    'pki',
    'workers',
  ],
  'move-database.ts': ['backup', 'config.ts', 'fleet', 'pki', 'storage'],
  'audit.ts': ['boot', 'checkpoint-copies.ts', 'fleet'],
  'checkpoint-copies.ts': ['pki', 'storage'],
  'chores.ts': [
    'audit.ts',
    'boot',
    'fleet',
    'images',
    'leaving',
    'listen.ts',
    'pki',
    'storage',
    'traces',
    'webhooks',
  ],
  'open-serving.ts': ['boot', 'config.ts', 'http', 'images', 'ipxe', 'open-limits.ts'],
  'open-boot.ts': ['boot', 'config.ts', 'fleet', 'http', 'listen.ts', 'open-roots.ts', 'workers'],
  'open-crew.ts': [
    'boot',
    'config.ts',
    'fleet',
    'listen.ts',
    'metrics',
    'open-boot.ts',
    'open-roots.ts',
    'workers',
  ],
  'open-worker.ts': [
    'boot',
    'config.ts',
    'fleet',
    'http',
    'images',
    'listen.ts',
    'log.ts',
    'metrics',
    'open-artifacts.ts',
    'open-boot.ts',
    'open-context.ts',
    'open-crew.ts',
    'open-limits.ts',
    'open-serving.ts',
    'storage',
    'workers',
  ],
  'server.ts': [
    'open-replica.ts',
    'chores.ts',
    'listen.ts',
    'open-artifacts.ts',
    'open-boot.ts',
    'open-context.ts',
    'open-crew.ts',
    'open-limits.ts',
    'open-operator.ts',
    'open-roots.ts',
    'open-serving.ts',
    'open-sign-in.ts',
    'open-tftp.ts',
    'open-traces.ts',
    'boot',
    'fleet',
    'http',
    'images',
    'ipxe',
    'metrics',
    'pki',
    'storage',
    'templates',
    'traces',
    'webhooks',
    'config.ts',
    'config-values.ts',
    'log.ts',
    'workers',
  ],
  'scratch.ts': ['config.ts', 'init.ts', 'log.ts', 'pki', 'server.ts'],
  'main.ts': [
    'move-database.ts',
    'backup',
    'cli',
    'config.ts',
    'doctor',
    'init.ts',
    'log.ts',
    'open-worker.ts',
    'pki',
    'root-rotation.ts',
    'scratch.ts',
    'server.ts',
  ],
}

const imports = files.flatMap((file) =>
  [...read(file).matchAll(/^(?:import|export)\s(type\s)?(?:[^'"`;=()]*?\sfrom\s)?'([^']+)'/gm)].map(
    ([, type, target = '']) => ({ file, target, onlyTypes: type !== undefined }),
  ),
)

/** What a part may take the types of: the command line is a client of the API, and shares the shapes of its answers. */
const mayNameTypesOf: Readonly<Record<string, readonly string[]>> = {
  cli: ['fleet', 'http', 'webhooks'],
  web: ['cli'],
}

t.test('imports point down only', async (t) => {
  for (const { file, target, onlyTypes } of imports) {
    if (!target.startsWith('.') || target.endsWith('package.json')) continue
    const to = partOf(relative(root, join(root, dirname(file), target)))
    const from = partOf(file)
    const allowed =
      from === to ||
      to === 'errors.ts' ||
      (to === 'domain' && from !== 'errors.ts') ||
      may[from]?.includes(to) ||
      (onlyTypes && mayNameTypesOf[from]?.includes(to))
    t.ok(allowed, `${file} imports ${target}`)
  }
  for (const file of files) t.ok(partOf(file) in may, `${file} has its place in this table`)
})

t.test('the domain does no I/O and has no clock', async (t) => {
  const pure = new Set(['node:crypto', 'typebox', 'typebox/error', 'ipaddr.js'])
  // Documents of joins: text in, text out, with no file behind it.
  const documents = new Set(['liquidjs', 'yaml'])
  for (const { file, target } of imports) {
    if (file === 'src/domain/join/document.ts' && documents.has(target)) continue
    if (file === 'src/domain/schema.ts' && target === 'node:module') continue // loads typebox when it checks
    if (file.startsWith('src/domain/') && !target.startsWith('.'))
      t.ok(pure.has(target), `${file} imports ${target}`)
  }
})

t.test('only main.ts reads the process and the clock', async (t) => {
  // Files and folders are told apart by who owns them, temporary files by who made them: facts of the process, not input.
  const mayRead: Readonly<Record<string, RegExp>> = {
    // An emulated machine must not outlive us.
    'src/cli/image-test/machine.ts': /process\.(once|removeListener)/g,
    'src/pki/key-file.ts': /process\.(geteuid|pid)/g,
    // The entry of a process of its own.
    'src/storm/crew-main.ts': /process\.(on|exit|connected|send|cpuUsage)/g,
    'src/storage/integrity-child.ts': /process\.(argv|send|disconnect)/g,
    // What waits to be written is written when the process ends.
    'src/log-lines.ts': /process\.once/g,
    'src/http/gate.ts': /process\.(cpuUsage|memoryUsage)/g,
    // Workers run with the flags of their keeper.
    'src/workers/fork.ts': /process\.execArgv/g,
    'src/metrics/usage.ts': /process\.(cpuUsage|memoryUsage)/g,
    // Whose lock it is, and whether that one lives.
    'src/pki/folder-lock.ts': /process\.(pid|kill)/g,
  }
  // The dashboard runs in browsers, which have no other clock to hand in.
  for (const file of files.filter((file) => file !== 'src/main.ts' && partOf(file) !== 'web')) {
    const code = read(file)
      .replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
      .replace(mayRead[file] ?? /$^/, '')
    t.notMatch(code, /\bprocess\.|\bnew Date\(\)|\bDate\.now\(/, file)
  }
})

t.test('each risky package stands behind one file', async (t) => {
  const behind: Readonly<Record<string, RegExp>> = {
    'openid-client': /^src\/http\/sign-in\/provider\.ts$/,
    '@peculiar/x509': /^src\/pki\/x509-library\.ts$/,
    'node-forge': /^src\/pki\/code-signing\.ts$/,
    // Whole, each is a good part of a start.
    typebox: /^src\/domain\/schema\.ts$/,
    'prom-client': /^src\/metrics\//,
    'reflect-metadata': /^src\/pki\/x509-library\.ts$/,
    liquidjs: /^src\/(templates\/|domain\/join\/document\.ts$)/,
    'better-sqlite3': /^src\/storage\/(database|sqlite|integrity(-child)?)\.ts$/,
    pg: /^src\/storage\/(database|postgres-primary)\.ts$/,
    'pg-protocol': /^src\/storage\/postgres-round\.ts$/,
    commander: /^src\/cli\//,
    '@aws-sdk/client-s3': /^src\/images\/s3-/,
    '@opentelemetry/api': /^src\/traces\/otlp\.ts$/,
    '@opentelemetry/otlp-transformer': /^src\/traces\/otlp\.ts$/,
    '@opentelemetry/resources': /^src\/traces\/otlp\.ts$/,
    '@opentelemetry/sdk-trace-base': /^src\/traces\/otlp\.ts$/,
  }
  for (const { file, target } of imports) {
    const only = behind[target]
    if (only !== undefined) t.match(file, only, `${target} in ${file}`)
  }
})

/** What makes certificates and what a request needs: each was a part of a start, some a tenth. node:http brings a WebSocket client with it. */
const notAtTheStart =
  /^(@peculiar\/x509|node-forge|typebox(\/.*)?|@fastify\/type-provider-typebox|jose|openid-client|prom-client|node:http|@opentelemetry\/.*|@aws-sdk\/.*)$/

t.test('a server that starts loads nothing that only some requests need', async (t) => {
  const loaded = new Set(['src/server.ts'])
  for (const from of loaded) {
    for (const { target } of imports.filter(({ file, onlyTypes }) => file === from && !onlyTypes)) {
      t.notMatch(target, notAtTheStart, from)
      if (target.startsWith('.')) loaded.add(join(dirname(from), target))
    }
  }
  for (const file of ['src/pki/authority.ts', 'src/http/schemas/node.ts'])
    t.ok(loaded.has(file), 'what is imported is followed')
})

t.test('every dependency has a line in CONTRIBUTING that says what it is for', async (t) => {
  const { dependencies, devDependencies, optionalDependencies } = JSON.parse(read('package.json'))
  const text = read('CONTRIBUTING.md')
  for (const name of Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies })) {
    t.ok(text.includes(`\`${name}\``), name)
  }
})

t.test('files stay small', async (t) => {
  for (const file of files) t.ok(read(file).split('\n').length <= 301, file)
})
