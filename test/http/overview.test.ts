import { gunzipSync } from 'node:zlib'
import t from 'tap'
import { createOperator } from '../../src/fleet/operators.ts'
import { storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { boot, machineOf } from '../helpers/machine.ts'
import { listenOver, send } from '../helpers/operator-listener.ts'
import { forEachDatabase } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('the overview has each node in a line, all or by name; images are counted', async (t) => {
    const world = await openWorld()
    const { app } = await listenOver(t, world)
    const viewer = await createOperator(world.context, { name: 'v', role: 'viewer', expiresAt: null })
    const get = (path: string) => send(app, viewer, 'GET', path)
    t.same((await get('overview')).json(), { nodes: [], more: false })
    t.same((await get('image-uses')).json(), { items: [] })
    const secret = await storeDemoFleet(world)
    await storeNode(world, { name: 'node2', state: 'disabled', labels: '{"site":"a"}' })
    const learnt = await boot(world, machineOf(secret))
    const { nodes } = (await get('overview')).json()
    t.match(nodes, [
      { name: 'node1', state: 'ready', session: 'ready', stage: 'report', sequence: 'boot', profile: 'demo' },
      {
        name: 'node2',
        state: 'disabled',
        session: null,
        stage: null,
        labels: { site: 'a' },
        startedAt: null,
      },
    ])
    t.equal(nodes.length, 2)
    t.ok(learnt)
    const named = await get('overview?name=node2&name=gone')
    t.same(
      named.json().nodes.map(({ name }: { name: string }) => name),
      ['node2'],
    )
    t.same((await get('overview?name=node1')).json().nodes, [nodes[0]])
    t.same((await get('image-uses')).json(), {
      items: [{ image: 'full@1', nodes: 1, ready: 1 }],
    })
    const many = Array.from({ length: 101 }, (_, n) => `name=n${n}`).join('&')
    t.equal((await get(`overview?${many}`)).statusCode, 400)

    for (let n = 0; n < 120; n += 1) await storeNode(world, { name: `rack-${n}` })
    const ask = (encoding: string) =>
      app.inject({
        url: '/api/v1/overview',
        headers: { authorization: `Bearer ${viewer}`, 'accept-encoding': encoding },
      })
    const plain = await ask('identity')
    t.equal(plain.headers['content-encoding'], undefined)
    t.equal((await ask('gzip;q=0')).headers['content-encoding'], undefined, 'who refuses gzip gets none')
    const small = await ask('gzip, br')
    t.match(small.headers, { 'content-encoding': 'gzip', vary: 'accept-encoding' })
    t.equal(gunzipSync(small.rawPayload).toString(), plain.payload)
  })
})
