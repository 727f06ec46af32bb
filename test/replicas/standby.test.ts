import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { examine } from '../../src/doctor/examine.ts'
import type { Finding } from '../../src/doctor/finding.ts'
import { openStorage } from '../../src/storage/database.ts'
import { configOf, install, portOf, serve, temporaryFolder } from '../backup/helpers.ts'
import { run } from '../cli/helpers/installation.ts'
import { postgresAbsent } from '../helpers/postgres.ts'
import { type Cluster, startCluster, startStandby } from '../helpers/postgres-cluster.ts'
import { root } from '../helpers/release.ts'
import { send } from '../helpers/robot.ts'
import { until } from '../helpers/until.ts'

const skip = process.env.PAWL_REQUIRE === 'all' ? false : (postgresAbsent() ?? false)

/** What the doctor says of one thing. */
async function doctor(dataDir: string, database: string, check: string): Promise<Finding | undefined> {
  const { findings } = await examine({
    ...{ dataDir, configOf: () => configOf(dataDir, { database }), now: new Date(), version: '0.6.0' },
    ...{ hostName: 'localhost', nodeVersion: '24.0.0', full: false, isAlive: () => false },
    templatesFolder: join(root, 'ipxe-templates'),
  })
  return findings.find((one) => one.check === check)
}

const addressOf = ({ port }: Cluster): string => `127.0.0.1:${port}`

t.test(
  'a server of PostgreSQL that only takes reads is refused at the start, in words',
  { skip },
  async (t) => {
    const primary = await startCluster(t)
    const { dataDir, database } = await install(t, () => primary.create('pawl'))
    const standby = await startStandby(t, primary, 'standby')
    const url = standby.url('pawl')
    const refused = {
      code: 'storage-unavailable',
      message: `database ${url} is a standby: it only takes reads`,
      hint: /name the primary, or all hosts/,
    }
    await t.rejects(openStorage(url), refused)
    const { status, stderr } = spawnSync(join(root, 'bin/pawl'), ['server', '--data', dataDir], {
      encoding: 'utf8',
      env: { ...process.env, PAWL_DATABASE: url.replace('pawl@', 'pawl:s3cret@') },
    })
    t.equal(status, 1)
    t.match(stderr, `error: ${refused.message}\nhint: name the primary`)
    t.notMatch(stderr, /s3cret/)
    t.match(await doctor(dataDir, url, 'database'), { level: 'fail', found: refused.message })

    const other = await startCluster(t)
    await other.create('pawl')
    const names = `postgres://pawl@${addressOf(standby)},${addressOf(primary)}`
    await t.test('of several hosts the one is taken that takes writes', async () => {
      const storage = await openStorage(`${names}/pawl`)
      await storage.close()
    })
    await t.rejects(
      openStorage(`${names},${addressOf(other)}/pawl`),
      { message: /has hosts of different clusters$/ },
      'an address that is wrong is not found out by losing half of what is written',
    )
    await primary.query("alter system set synchronous_standby_names = 'standby'")
    await primary.query('select pg_reload_conf()')
    t.match(await doctor(dataDir, database, 'durability'), {
      level: 'ok',
      found: /waits for standbys: standby$/,
    })
    await primary.query('alter database pawl set synchronous_commit = off')
    t.match(await doctor(dataDir, database, 'durability'), {
      ...{ level: 'warn', found: /^synchronous_commit is off: when PostgreSQL crashes, a token/ },
    })
    await primary.query('alter database pawl set default_transaction_read_only = on')
    await t.rejects(openStorage(database), { message: /only takes reads \(default_transaction_read_only\)$/ })
    await other.stop('immediate')
    await t.rejects(openStorage(`${names},${addressOf(other)}/pawl`), {
      ...{ code: 'storage-unavailable', hint: /one of them takes writes/ },
      message: `${names},${addressOf(other)}/pawl has no host that takes writes: ${addressOf(standby)} is a standby: it only takes reads, ${addressOf(
        primary,
      )} only takes reads (default_transaction_read_only), ${addressOf(other)} cannot be reached (ECONNREFUSED)`,
    })
  },
)

t.test(
  'what an asynchronous standby had not is lost when it is promoted: a token is used twice, and a checkpoint kept elsewhere tells',
  { skip },
  async (t) => {
    const first = await startCluster(t)
    const { dataDir, ca, secret } = await install(t, () => first.create('pawl'))
    const second = await startStandby(t, first, 'second')
    const copies = join(temporaryFolder(t), 'copies')
    mkdirSync(copies)
    appendFileSync(join(dataDir, 'pawl.yaml'), `checkpointDir: ${copies}\n`)
    const database = `postgres://pawl@${addressOf(first)},${addressOf(second)}/pawl`
    const server = await serve(t, dataDir, database)
    const target = { port: portOf(server), ca }
    const pawl = (...argv: string[]) => run(argv, { env: { PAWL_DATA: dataDir } })

    const base = '/v1/boot/node1'
    const script = await send(target, 'GET', `${base}/stage1.ipxe?secret=${secret}&serial=A&platform=efi`)
    const k = /handover\?k=([\w-]{44})/.exec(script.text)?.[1]
    const { stage2 } = JSON.parse((await send(target, 'GET', `${base}/handover?k=${k}`)).text).tokens
    const redeem = async (key: string): Promise<number> => {
      const headers = { authorization: `Bearer ${stage2}`, 'idempotency-key': key.repeat(22) }
      return (await send(target, 'POST', `${base}/stage2`, headers).catch(() => ({ status: 0 }))).status
    }
    t.equal((await pawl('event', 'checkpoint')).exit, 0)
    await until(t, async () => (await second.query('select 1 from checkpoints', 'pawl')).length, 1)

    t.match(await doctor(dataDir, database, 'durability'), {
      ...{ level: 'warn', found: /^no standby is synchronous, 1 follow: / },
      advice: /synchronous_standby_names/,
    })
    await second.query("alter system set primary_conninfo = ''")
    await second.query('select pg_reload_conf()')
    await until(t, () => first.query('select 1 from pg_stat_replication'), [])
    t.equal(await redeem('a'), 200)
    t.equal(await redeem('b'), 403, 'a token opens its stage once')
    const kept = join(temporaryFolder(t), 'kept.json')
    t.equal((await pawl('event', 'checkpoint', '--out', kept)).exit, 0)
    await server.maintain()
    t.ok(existsSync(join(copies, 'checkpoint-00000002.jws')))
    t.equal((await pawl('event', 'verify', '--checkpoint', kept)).exit, 0)
    t.match(await doctor(dataDir, database, 'checkpoints'), { level: 'ok' })

    await first.kill()
    await second.promote()
    let status = 0
    while (status === 0 || status === 503) status = await redeem('b')
    t.equal(status, 200, 'the one that was promoted knows nothing of the first use')

    const verified = await pawl('event', 'verify', '--checkpoint', kept)
    t.equal(verified.exit, 1)
    t.comment(verified.stdout, verified.stderr)
    t.match(verified.stderr, /cut off/)
    const fault = {
      message: `${copies} holds checkpoint 2, the database none after 1`,
      hint: /was set back to an older state/,
    }
    await t.rejects(server.maintain(), fault, 'the log says it each time')
    t.match(await doctor(dataDir, database, 'checkpoints'), {
      ...{ level: 'fail', found: fault.message, advice: fault.hint },
    })
    await pawl('event', 'checkpoint')
    t.match(await doctor(dataDir, database, 'checkpoints'), {
      ...{ level: 'fail', found: /checkpoint-00000002\.jws is another checkpoint than the database's/ },
    })
  },
)
