import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import t, { type Test } from 'tap'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { extensionLimits } from '../../src/domain/extension.ts'
import { parseProfile, writeProfile } from '../../src/domain/profile.ts'
import { extensionPlace } from '../../src/fleet/extension-view.ts'
import { settingsKey } from '../../src/pki/settings-key.ts'
import type { Storage } from '../../src/storage/database.ts'
import { listEvents, verifyChains } from '../../src/storage/events.ts'
import { insertExtension } from '../../src/storage/extensions.ts'
import { demoProfile } from '../helpers/fleet.ts'
import { postgresAbsent, startPostgres } from '../helpers/postgres.ts'
import { type Receiver, startReceiver } from '../helpers/receiver.ts'
import { bootToJoin, send } from '../helpers/robot.ts'
import { type Connection, openToEach } from './connection.ts'
import { install, type Server } from './installation.ts'

const operation = 'token'
const maxAnswerBytes = 1000
const answer = { status: 200, headers: { 'content-type': 'text/plain' }, body: 'abcdef' }

/** An extension at the receiver, which the profile of all nodes allows. */
async function allow({ db }: Storage, folder: string, { url, ca }: Receiver): Promise<void> {
  const at = new Date().toISOString()
  const sealer = settingsSealer(settingsKey(folder))
  await db.transaction().execute((tx) =>
    insertExtension(tx, {
      ...{ operation, timeout_seconds: 20, max_answer_bytes: maxAnswerBytes, answer_types: '["text/plain"]' },
      ...{ url: sealer.seal(`${url}/token`, extensionPlace(operation, 'url')), ca },
      ...{ client_certificate: null, client_key: null },
      ...{ revision: 1, created_at: at, created_by: 'operator:test', updated_at: at },
    }),
  )
  const profile = parseProfile({ ...demoProfile, extensions: [operation], acceptUnsigned: true })
  await db
    .updateTable('profiles')
    .set({ document: JSON.stringify(writeProfile(profile)) })
    .execute()
}

/** Boots a node to its full system; gives what it may ask extensions with. */
async function bootOne(server: Server, host: string, secret: string): Promise<string> {
  let last = ''
  await bootToJoin(
    async (...asked) => {
      const got = await send(server, ...asked)
      last = got.text
      return got
    },
    { host, secret },
  )
  return JSON.parse(last).tokens.extension
}

/** Whatever process is asked, of however many servers: one key, one key set, the same bounds. */
async function suite(t: Test, servers: number, url?: string): Promise<void> {
  const installation = await install(t, 2 * servers, url)
  const { folder, secrets, withStorage } = installation
  const receiver = await startReceiver(t)
  receiver.answer = () => answer
  await withStorage((storage) => allow(storage, folder, receiver))
  const flags = ['--extension-allowed-networks', '127.0.0.1', '--extension-allowed-networks', '::1']
  const places = servers === 1 ? [installation] : [installation, installation.replica()]
  const running = await Promise.all(places.map((place) => place.start(flags)))
  const [first] = running as [Server]
  const connections = (await Promise.all(running.map((server) => openToEach(server, 2, 1)))).flat()
  const nodes = await Promise.all(
    [...secrets].map(async ([host, secret]) => ({ host, token: await bootOne(first, host, secret) })),
  )
  const ask = (to: Connection | undefined, { host, token } = nodes[0] as (typeof nodes)[0]) =>
    (to as Connection).ask('POST', `/v1/boot/${host}/extension/${operation}`, {
      authorization: `Bearer ${token}`,
    })

  await t.test(
    'of all that ask first at once one makes the key, and what any signs is good by each key set',
    async (t) => {
      const answers = await Promise.all(nodes.map((node, n) => ask(connections[n], node)))
      t.same(
        answers,
        nodes.map(() => ({ status: 200, text: 'abcdef' })),
      )
      const sets = await Promise.all(connections.map((one) => one.ask('GET', '/v1/extensions/jwks.json')))
      t.equal(new Set(sets.map(({ text }) => text)).size, 1)
      const keys = JSON.parse(sets[0]?.text ?? '') as JSONWebKeySet
      t.equal(keys.keys.length, 1)
      const told = await Promise.all(
        receiver.received.map(async ({ headers }) => {
          const jwt = String(headers.authorization).replace('Bearer ', '')
          const { payload, protectedHeader } = await jwtVerify(jwt, createLocalJWKSet(keys), {
            audience: `${receiver.url}/token`,
          })
          return { sub: payload.sub, jti: payload.jti, kid: protectedHeader.kid }
        }),
      )
      t.same(told.map(({ sub }) => sub).toSorted(), nodes.map(({ host }) => host).toSorted())
      t.equal(new Set(told.map(({ jti }) => jti)).size, nodes.length)
      t.equal(new Set(told.map(({ kid }) => kid)).size, 1)
      await withStorage(async ({ db }) => {
        t.equal((await db.selectFrom('extension_keys').selectAll().execute()).length, 1)
        const made = (await listEvents(db, { limit: 10_000 })).filter(
          ({ kind }) => kind === 'extension-key-made',
        )
        t.equal(made.length, 1)
      })
    },
  )

  await t.test('an answer that is too large is given by none of them', async (t) => {
    receiver.answer = () => ({ ...answer, body: 'x'.repeat(maxAnswerBytes + 1) })
    for (const connection of connections) t.equal((await ask(connection, nodes[1])).status, 502)
    receiver.answer = () => ({ ...answer, body: 'x'.repeat(maxAnswerBytes) })
    for (const connection of connections) t.equal((await ask(connection, nodes[1])).status, 200)
  })

  await t.test('a boot asks no more often than it may, whoever it asks', async (t) => {
    await withStorage(({ db }) =>
      db
        .updateTable('extension_calls')
        .set({ count: extensionLimits.callsOfSession - connections.length })
        .execute(),
    )
    const before = receiver.received.length
    for (const connection of connections) t.equal((await ask(connection)).status, 200)
    for (const connection of connections) t.equal((await ask(connection)).status, 403)
    t.equal(receiver.received.length, before + connections.length, 'who asks too often reaches no service')
  })

  for (const { child, ended } of running) {
    child.kill('SIGTERM')
    t.match(await ended, { code: 0 })
  }
  await withStorage(async ({ db }) => t.same((await verifyChains(db)).faults, []))
}

await t.test('two workers on SQLite: who asks is the keeper', (t) => suite(t, 1))

const absent = process.env.PAWL_REQUIRE === 'all' ? undefined : postgresAbsent()
await t.test(
  'two servers of two workers on PostgreSQL: each worker asks',
  absent === undefined ? {} : { skip: absent },
  async (t) => suite(t, 2, await (await startPostgres()).createDatabase()),
)
