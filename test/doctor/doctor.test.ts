import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import Sqlite from 'better-sqlite3'
import t, { type Test } from 'tap'
import manifest from '../../package.json' with { type: 'json' }
import { runCli } from '../../src/cli/main.ts'
import { loadConfig } from '../../src/config.ts'
import { type Examined, type ExamineOptions, examine } from '../../src/doctor/examine.ts'
import type { Finding } from '../../src/doctor/finding.ts'
import { addSeconds } from '../../src/domain/clock.ts'
import {
  backup,
  forEachPlace,
  type Installed,
  install,
  serve,
  temporaryFolder,
  withStorage,
} from '../backup/helpers.ts'
import { freePort } from '../helpers/ports.ts'

function look(
  { dataDir, database }: Pick<Installed, 'dataDir' | 'database'>,
  wish: Partial<ExamineOptions> = {},
): Promise<Examined> {
  return examine({
    dataDir,
    configOf: (fileText) =>
      loadConfig({ flags: { data: dataDir, database }, env: {}, fileText, fileName: 'pawl.yaml' }),
    now: new Date(),
    version: manifest.version,
    hostName: 'localhost',
    nodeVersion: '24.0.0',
    templatesFolder: join(import.meta.dirname, '../../ipxe-templates'),
    full: false,
    isAlive: (id) => id === process.pid,
    ...wish,
  })
}

const faulty = ({ findings }: Examined): Finding[] => findings.filter(({ level }) => level === 'fail')

/** Every file with its bytes, but for what SQLite itself puts beside a database that is read. */
function contents(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/-(wal|shm)$/.test(entry.name))
    .map(
      ({ parentPath, name }) => `${join(parentPath, name)} ${readFileSync(join(parentPath, name), 'base64')}`,
    )
    .sort()
}

await forEachPlace(t, async (t, place) => {
  await t.test('a healthy installation: nothing fails, and nothing is changed', async (t) => {
    const installed = await install(t, place)
    const { dataDir, database } = installed
    await backup(installed, join(temporaryFolder(t), 'x.tar'))
    const before = contents(dataDir)
    const stopped = await look(installed, { full: true })
    t.same(faulty(stopped), [])
    t.same(contents(dataDir), before)
    const server = await serve(t, dataDir, database)
    const running = await look(installed)
    t.same(faulty(running), [])
    t.equal(running.ok, true)
    const found = (check: string): string | undefined =>
      running.findings.find((one) => one.check === check)?.found
    t.match(found('boot listener'), /^https:\/\/127\.0\.0\.1:\d+ answers old firmware, with leaf and root$/)
    t.match(found('operator listener'), /is ready$/)
    t.equal(found('server'), `runs as process ${process.pid}, version ${manifest.version}`)
    t.equal(found('images'), '3 images, 9 artifacts, all there (--full reads them)')
    t.match(found('templates'), /^\d+ render; yours: held\.ipxe$/)
    t.equal(found('profiles'), '1, and every image they name is there')
    const other = await look(installed, { version: '99.0.0' })
    t.match(
      other.findings.find(({ check }) => check === 'server'),
      { level: 'warn', advice: 'restart it' },
    )
    await server.close()
  })
})

/** What is broken, and what must be found: the check, and words of the finding and of the advice. */
interface Break {
  readonly what: string
  readonly breakIt: (installed: Installed, t: Test) => unknown
  readonly wish?: (installed: Installed) => Partial<ExamineOptions>
  readonly check: string
  readonly level?: 'warn'
  readonly found: RegExp
  readonly advice: RegExp
}

const file = ({ dataDir }: Installed, name: string): string => join(dataDir, name)
const execute = ({ database }: Installed, sql: string): void => {
  const sqlite = new Sqlite(database)
  sqlite.pragma('foreign_keys = off')
  sqlite.exec(sql)
  sqlite.close()
}
const day = 86_400

const breaks: readonly Break[] = [
  {
    what: 'no folder',
    breakIt: (i) => renameSync(i.dataDir, `${i.dataDir}.away`),
    check: 'folder',
    found: /does not exist/,
    advice: /pawl init/,
  },
  {
    what: 'a folder for all',
    breakIt: (i) => chmodSync(i.dataDir, 0o755),
    check: 'folder',
    found: /mode 0755/,
    advice: /chmod 700/,
  },
  {
    what: 'another folder',
    breakIt: (i) => {
      for (const name of ['ca.crt', 'pawl.yaml']) rmSync(file(i, name))
    },
    check: 'folder',
    found: /holds no Pawl data/,
    advice: /pawl init/,
  },
  {
    what: 'settings with a misspelt name',
    breakIt: (i) => writeFileSync(file(i, 'pawl.yaml'), 'publicUlr: x\n'),
    check: 'settings',
    found: /publicUlr/,
    advice: /publicUrl/,
  },
  {
    what: 'a key that all can read',
    breakIt: (i) => chmodSync(file(i, 'pki/root.key'), 0o644),
    check: 'key file',
    found: /root\.key has mode 0644/,
    advice: /chmod 600/,
  },
  ...['clients', 'nodes'].map(
    (name): Break => ({
      what: `a key of the CA of ${name} that all can read`,
      breakIt: (i) => chmodSync(file(i, `pki/${name}.key`), 0o644),
      check: 'key file',
      found: new RegExp(`${name}\\.key has mode 0644`),
      advice: /chmod 600/,
    }),
  ),
  {
    what: 'no key of the CA of nodes',
    breakIt: (i) => rmSync(file(i, 'pki/nodes.key')),
    check: 'CA of nodes',
    found: /nodes\.key is not there/,
    advice: /restore both/,
  },
  {
    what: 'no settings key',
    breakIt: (i) => rmSync(file(i, 'pki/settings.key')),
    check: 'settings key',
    found: /settings\.key is not there/,
    advice: /restore it/,
  },
  {
    what: 'an extension sealed with another settings key',
    breakIt: (i) =>
      execute(
        i,
        `insert into extensions (operation, url, timeout_seconds, max_answer_bytes, answer_types, revision, created_at, created_by, updated_at)
         values ('allocate', 'sealed:AAAA', 10, 100, '[]', 1, '', '', '')`,
      ),
    check: 'sealed settings',
    found: /^extension "allocate": url or clientKey was sealed with another key$/,
    advice: /^restore the pki\/settings\.key .* or apply it again/,
  },
  {
    what: 'a webhook sealed with another settings key',
    breakIt: (i) =>
      execute(
        i,
        `insert into webhooks (id, name, url, kinds, secret, cursor, failures, revision, created_at, created_by, updated_at)
         values ('x', 'chat', 'sealed:AAAA', '["*"]', 'sealed:AAAA', 0, 0, 1, '', '', '')`,
      ),
    check: 'sealed settings',
    found: /^webhook "chat": url, secret was sealed with another key$/,
    advice: /pawl webhook set chat --url - and pawl webhook rotate-secret chat$/,
  },
  {
    what: 'a profile sealed with another settings key',
    breakIt: (i) => {
      const join = {
        kind: 'kubeadm',
        settings: { endpoint: '192.0.2.1:6443', token: 'sealed:AAAA', caCertHash: '' },
      }
      const boot = { stage2: 'small@1', stage3: 'full@1', join }
      const document = JSON.stringify({ name: 'lost', boot })
      execute(
        i,
        `insert into profiles (name, document, revision, created_at, updated_at) values ('lost', '${document}', 1, '', '')`,
      )
    },
    check: 'sealed settings',
    found: /^profile "lost": boot\.join\.settings\.token was sealed with another key$/,
    advice: /pawl profile apply$/,
  },
  {
    what: 'no issuing key',
    breakIt: (i) => rmSync(file(i, 'pki/issuing.key')),
    check: 'certificates',
    found: /issuing\.key/,
    advice: /backup/,
  },
  {
    what: 'a clock that is far behind',
    breakIt: () => {},
    wish: () => ({ now: new Date('2020-01-01') }),
    check: 'clock',
    found: /before our CA was made/,
    advice: /NTP/,
  },
  {
    what: 'a clock that is behind the log',
    breakIt: () => {},
    wish: () => ({ now: addSeconds(new Date(), -day) }),
    check: 'clock',
    found: /before the newest event/,
    advice: /NTP/,
  },
  {
    what: 'certificates that have ended',
    breakIt: () => {},
    wish: () => ({ now: addSeconds(new Date(), 11 * 365 * day) }),
    check: 'issuing certificate',
    found: /has ended/,
    advice: /root\.key/,
  },
  {
    what: 'a certificate for other names',
    breakIt: async (i, t) => {
      await (await serve(t, i.dataDir, i.database)).close()
      writeFileSync(file(i, 'pawl.yaml'), 'publicUrl: https://boot.example.test:8443\n')
    },
    check: 'boot certificate',
    found: /is not for boot\.example\.test/,
    advice: /restart the server/,
  },
  {
    what: 'a public name that does not resolve',
    breakIt: (i) => writeFileSync(file(i, 'pawl.yaml'), 'publicUrl: https://nowhere.invalid:8443\n'),
    check: 'public URL',
    found: /nowhere\.invalid does not resolve/,
    advice: /DNS/,
  },
  {
    what: 'a public address of another machine',
    breakIt: (i) => writeFileSync(file(i, 'pawl.yaml'), 'publicUrl: https://192.0.2.1:8443\n'),
    check: 'public URL',
    level: 'warn',
    found: /192\.0\.2\.1 is no address of this machine/,
    advice: /load balancer/,
  },
  {
    what: 'no database',
    breakIt: (i) => rmSync(i.database),
    check: 'database',
    found: /there is no /,
    advice: /pawl restore/,
  },
  {
    what: 'a damaged database',
    breakIt: (i) => writeFileSync(i.database, 'x'.repeat(8192)),
    check: 'database',
    found: /is damaged/,
    advice: /restore the last backup/,
  },
  {
    what: 'a database of a newer Pawl',
    breakIt: (i) => execute(i, "insert into kysely_migration values ('9999-later', '2026')"),
    check: 'database',
    found: /made by a newer Pawl/,
    advice: /run the newer Pawl/,
  },
  {
    what: 'rows that refer to nothing',
    breakIt: (i) => execute(i, "insert into node_macs values ('52:54:00:00:00:01', 'none')"),
    check: 'database',
    found: /1 rows refer to rows that are not there/,
    advice: /restore/,
  },
  {
    what: 'an event cut off',
    breakIt: (i) =>
      execute(i, "delete from events where id = (select max(id) from events where chain = 'system')"),
    check: 'events',
    found: /the last event of chain system/,
    advice: /checkpoint/,
  },
  {
    what: 'an event edited',
    breakIt: (i) => execute(i, "update events set actor = 'operator:nobody' where id = 1"),
    wish: () => ({ full: true }),
    check: 'events',
    found: /event 1: edited/,
    advice: /checkpoint/,
  },
  {
    what: 'no backup',
    breakIt: () => {},
    check: 'backup',
    level: 'warn',
    found: /none was ever made/,
    advice: /pawl backup/,
  },
  {
    what: 'a server that hangs',
    breakIt: async (i) =>
      writeFileSync(
        file(i, 'server.json'),
        JSON.stringify({
          boot: `https://127.0.0.1:${await freePort()}`,
          operator: 'https://127.0.0.1:1',
          pid: process.pid,
        }),
      ),
    check: 'server',
    found: /is there, and nothing answers/,
    advice: /look at its log/,
  },
  {
    what: 'another program on its port',
    breakIt: async (i, t) => {
      const other = createServer((socket) => {
        socket.on('error', () => {})
        socket.end('hello\n')
      }).listen(0, '127.0.0.1')
      await once(other, 'listening')
      t.teardown(() => void other.close())
      const { port } = other.address() as { port: number }
      writeFileSync(
        file(i, 'server.json'),
        JSON.stringify({
          boot: `https://127.0.0.1:${port}`,
          operator: `https://127.0.0.1:${port}`,
          pid: process.pid,
        }),
      )
    },
    check: 'boot listener',
    found: /refuses old boot firmware/,
    advice: /something else/,
  },
  {
    what: 'a certificate that was replaced on the disk',
    breakIt: async (i, t) => {
      const server = await serve(t, i.dataDir, i.database)
      const kept = readFileSync(file(i, 'server.json'))
      await server.close()
      const again = await serve(t, i.dataDir, i.database)
      const text = readFileSync(file(i, 'pki/operator.pem'))
      writeFileSync(file(i, 'pki/boot.pem'), text, { mode: 0o600 })
      t.ok(kept.length > 0 && again.ready.boot)
    },
    check: 'boot listener',
    found: /another certificate than pki\/boot\.pem/,
    advice: /restart the server/,
  },
  {
    what: 'a template that does not parse',
    breakIt: (i) => writeFileSync(file(i, 'ipxe-templates/held.ipxe'), '#!ipxe\n{{ nothing }}\n'),
    check: 'templates',
    found: /uses "nothing"/,
    advice: /it may use/,
  },
  {
    what: 'a template that replaces nothing',
    breakIt: (i) => writeFileSync(file(i, 'ipxe-templates/hold.ipxe'), '#!ipxe\n'),
    check: 'templates',
    found: /is not the name of a template/,
    advice: /the templates are/,
  },
  {
    what: 'an artifact that is gone',
    breakIt: (i) => rmSync(file(i, `artifacts/sha256/${i.digests[0]}`)),
    check: 'images',
    found: /small@1: [0-9a-f]{12} is not there/,
    advice: /publish the image again/,
  },
  {
    what: 'an artifact that was cut',
    breakIt: (i) => writeFileSync(file(i, `artifacts/sha256/${i.digests[0]}`), 'x'),
    check: 'images',
    found: /has 1 bytes, not/,
    advice: /publish/,
  },
  {
    what: 'an artifact with another byte',
    breakIt: (i) => {
      const path = file(i, `artifacts/sha256/${i.digests[0]}`)
      writeFileSync(path, readFileSync(path, 'utf8').replace('small', 'smoll'))
    },
    wish: () => ({ full: true }),
    check: 'images',
    found: /has other bytes/,
    advice: /publish/,
  },
  {
    what: 'a profile whose image is gone',
    breakIt: (i) => execute(i, "delete from images where name = 'full' and version = '1'"),
    check: 'profile demo',
    found: /image full@1 is not published/,
    advice: /pawl image publish/,
  },
  {
    what: 'a profile whose image nobody signed',
    breakIt: (i) =>
      execute(
        i,
        `update profiles set document = replace(document, '"acceptUnsigned":true', '"acceptUnsigned":false')`,
      ),
    check: 'profile demo',
    found: /is not signed/,
    advice: /pawl image sign/,
  },
  {
    what: 'a node without a profile',
    breakIt: (i) => execute(i, "update nodes set profile = null where name = 'node2'"),
    check: 'nodes',
    level: 'warn',
    found: /1 without a profile: node2/,
    advice: /pawl node set/,
  },
  {
    what: 'an old Node',
    breakIt: () => {},
    wish: () => ({ nodeVersion: '22.18.0' }),
    check: 'Node',
    found: /too old/,
    advice: /Node 24/,
  },
  {
    what: 'a disk below the reserve',
    breakIt: (i) => writeFileSync(file(i, 'pawl.yaml'), 'refusalDiskReserveMiB: 1048576\n'),
    check: 'disk of data folder and database',
    found: /less than the reserve/,
    advice: /prune/,
  },
  {
    what: 'a restore that was cut off',
    breakIt: (i) => writeFileSync(file(i, '.restoring'), ''),
    check: 'folder',
    found: /was cut off/,
    advice: /pawl restore again/,
  },
]

t.test('what is broken is found, with what to do', async (t) => {
  for (const { what, breakIt, wish, check, level = 'fail', found, advice } of breaks) {
    await t.test(what, async (t) => {
      const installed = await install(t)
      await breakIt(installed, t)
      const examined = await look(installed, wish?.(installed))
      t.ok(
        examined.findings.some(
          (one) =>
            one.check === check &&
            one.level === level &&
            found.test(one.found) &&
            advice.test(one.advice ?? ''),
        ),
        JSON.stringify(examined.findings.filter((one) => one.level !== 'ok')),
      )
      t.equal(examined.ok, level === 'warn')
    })
  }
})

t.test('each thing that does not answer is given up in time', async (t) => {
  const installed = await install(t)
  const silent = createServer((socket) => void socket.on('error', () => {})).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => void silent.close())
  const { port } = silent.address() as { port: number }
  const url = `https://127.0.0.1:${port}`
  writeFileSync(
    join(installed.dataDir, 'server.json'),
    JSON.stringify({ boot: url, operator: url, pid: process.pid }),
  )
  const examined = await look(installed, { timeoutMilliseconds: 300 })
  t.match(
    examined.findings.find(({ check }) => check === 'listeners'),
    { level: 'fail', found: /no result after 0\.3 s/ },
  )
  t.ok(existsSync(installed.database) && statSync(installed.database).size > 0)
  await withStorage(installed.database, async () => {})
})

/** What `pawl doctor` says, without what differs from machine to machine. */
async function say(examined: Examined, dataDir: string, argv: readonly string[] = []): Promise<string> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const io = {
    ...{ argv: ['doctor', ...argv], env: {}, stdin, stdout, stderr },
    ...{ now: () => new Date(), isTTY: { stdout: false, stderr: false } },
  }
  const exit = await runCli(io, { doctor: async () => examined } as never) // no other command is run
  const text = (stream: PassThrough): string => String(stream.end().read() ?? '')
  return `${text(stdout)}${text(stderr)}exit ${exit}\n`
    .replaceAll(dataDir, 'DIR')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/\d{4}-\d\d-\d\d/g, 'DATE')
    .replace(/127\.0\.0\.1:\d+/g, 'HOST:PORT')
    .replace(/process \d+/g, 'process PID')
    .replace(/version \d+\.\d+\.\d+/g, 'version VERSION')
    .replace(/\b[0-9a-f]{12}\b/g, 'DIGEST')
    .replace(/\d+ MiB free/g, 'N MiB free')
    .replace(/(?:ok {2}|warn) {2}(clock: TIME).*\n( {6}enable .*\n)?/g, 'ok    $1\n')
    .replace(/(?:ok {2}|warn) {2}open files.*\n( {6}.*\n)?/g, '')
}

t.test('what it says of a healthy and of a broken installation (PAWL_UPDATE=golden writes it)', async (t) => {
  const compare = (name: string, text: string): void => {
    const golden = join(import.meta.dirname, name)
    if (process.env.PAWL_UPDATE === 'golden') writeFileSync(golden, text)
    t.equal(text, readFileSync(golden, 'utf8'), name)
  }
  const installed = await install(t)
  const { dataDir, database, digests } = installed
  writeFileSync(join(dataDir, 'pawl.yaml'), 'publicUrl: https://127.0.0.1:8443\n')
  await backup(installed, join(temporaryFolder(t), 'x.tar'))
  const server = await serve(t, dataDir, database)
  compare('healthy.txt', await say(await look(installed), dataDir))
  await server.close()
  rmSync(join(dataDir, 'artifacts', 'sha256', digests[0] ?? ''))
  rmSync(join(dataDir, 'pki', 'settings.key'))
  chmodSync(join(dataDir, 'publisher.key'), 0o644)
  writeFileSync(join(dataDir, 'pawl.yaml'), 'publicUrl: https://nowhere.invalid:8443\n')
  writeFileSync(join(dataDir, 'ipxe-templates', 'held.ipxe'), '#!ipxe\n{{ nothing }}\n')
  execute(installed, "delete from images where name = 'full' and version = '1'")
  execute(installed, "delete from events where id = (select max(id) from events where chain = 'system')")
  execute(installed, "update nodes set profile = null where name = 'node2'")
  const broken = await look(installed)
  compare('broken.txt', await say(broken, dataDir))
  t.equal(JSON.parse((await say(broken, dataDir, ['--json'])).split('error:')[0] ?? '').ok, false)
})
