import t from 'tap'
import { openApiOf } from '../../src/http/openapi.ts'
import { demoProfile, publishImage, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { listen } from '../helpers/operator-listener.ts'
import { newSigner } from '../helpers/signing.ts'
import { forEachDatabase } from '../helpers/world.ts'

/** Every list is read in pages the same way: `limit`, `after`, `next`. */
await forEachDatabase(t, async (t, openWorld) => {
  await t.test('a list read one by one is the list, and what is wrong is refused', async (t) => {
    const { send, world, app } = await listen(t, openWorld)
    await storeDemoFleet(world)
    const ask = async (path: string) => (await send('admin', 'GET', path)).json()
    for (const name of ['node2', 'node3']) await storeNode(world, { name, state: 'booting' })
    for (const version of ['2', '3']) {
      world.clock.advance(1)
      await publishImage(world, `small@${version}`, 'c', false)
    }
    await storeProfile(world, { ...demoProfile, name: 'a' })
    await storeProfile(world, { ...demoProfile, name: 'z' })
    for (const channel of ['small/stable', 'small/edge', 'full/stable'])
      await send('admin', 'PUT', `channels/${channel}`, { version: '1' })
    await send('admin', 'PUT', 'channels/full/stable/rules', { twoPerson: true })
    for (const name of ['p1', 'p2', 'p3']) {
      const { certificates } = await newSigner(name)
      await send('admin', 'POST', 'publishers', { name, certificates })
    }
    await send('admin', 'PUT', 'channels/small/stable/rules', { twoPerson: true })
    await send('admin', 'PUT', 'channels/full/stable', { version: '2' })
    for (const version of ['2', '3']) await send('admin', 'PUT', 'channels/small/stable', { version })
    for (const passed of [true, false, true])
      await send('publisher', 'POST', 'images/small/1/tests', { passed, detail: {} })
    await storeProfile(world, {
      ...demoProfile,
      name: 'roll',
      boot: { ...demoProfile.boot, stage2: 'small/edge' },
    })
    await storeNode(world, { name: 'node4', profile: 'roll' })
    for (let n = 0; n < 3; n++) {
      const started = await send('admin', 'POST', 'rollouts', {
        channel: 'small/edge',
        version: '2',
        waves: ['100%'],
      })
      await send('admin', 'POST', `rollouts/${started.json().rollout.id}/abort`)
    }
    // Every query that has a limit, from the document: none is left out.
    const lists = Object.entries(openApiOf(app).paths)
      .filter(([, { get }]) => get?.parameters?.some(({ name }) => name === 'after'))
      .map(([path]) => path.replace('/api/v1/', '').replace('{name}/{version}', 'small/1'))
    const filled = [
      ...[
        'nodes',
        'images',
        'profiles',
        'channels',
        'publishers',
        'operator-tokens',
        'proposals',
        'rollouts',
      ],
      ...['images/small/1/tests', 'events?after=0'],
    ]
    for (const path of filled) {
      t.ok(lists.includes(path.split('?')[0] ?? ''), `${path} is a list`)
      const whole = await ask(path)
      t.ok(whole.items.length >= 3, `${path}: ${whole.items.length}`)
      const byOne: unknown[] = []
      for (let next: string | number | null = path.includes('?') ? 0 : ''; next !== null; ) {
        const after = next === '' ? '' : `&after=${encodeURIComponent(next)}`
        const page = await ask(`${path.split('?')[0]}?limit=1${after}`)
        t.equal(page.items.length, 1, path)
        byOne.push(...page.items)
        next = page.next
        if (byOne.length > 200) throw new Error(`${path} has no end`)
      }
      t.strictSame(byOne, whole.items, path)
      const two = await ask(`${path.split('?')[0]}?limit=2${path.includes('?') ? '&after=0' : ''}`)
      t.strictSame(two.items, whole.items.slice(0, 2))
    }
    for (const path of lists.filter((one) => !one.includes('{'))) {
      for (const query of ['limit=0', 'limit=1001', 'limit=x', 'after=%00', 'colour=red']) {
        const answer = await send('admin', 'GET', `${path}?${query}`)
        t.equal(answer.statusCode, 400, `${path}?${query}`)
      }
    }
    for (const path of ['channels', 'images', 'rollouts', 'operator-tokens', 'proposals'])
      t.match((await send('admin', 'GET', `${path}?after=x`)).json(), {
        status: 400,
        detail: /not the "next" of a page/,
      })
    t.match((await send('admin', 'GET', 'pending?after=x')).json(), {
      status: 400,
      detail: /names nothing in this list/,
    })
  })

  await t.test('what is added or removed between two pages neither hides nor repeats another', async (t) => {
    const { send, world } = await listen(t, openWorld)
    for (const name of ['b', 'd', 'f']) await storeProfile(world, { ...demoProfile, name })
    const names = async (path: string) => {
      const page = (await send('viewer', 'GET', path)).json()
      return [page.items.map(({ name }: { name: string }) => name).join(), page.next]
    }
    t.strictSame(await names('profiles?limit=2'), ['b,d', 'd'])
    await storeProfile(world, { ...demoProfile, name: 'a' })
    await world.context.storage.db.deleteFrom('profiles').where('name', '=', 'd').execute()
    t.strictSame(await names('profiles?limit=2&after=d'), ['f', null])
  })

  await t.test('nodes by state, labels, profile, names and mark', async (t) => {
    const { send, world } = await listen(t, openWorld)
    await storeDemoFleet(world)
    await storeProfile(world, { ...demoProfile, name: 'web' })
    const nodes: [string, Record<string, unknown>][] = [
      ['mlab1.lga01', { state: 'ready', labels: '{"rack":"1","site":"lga"}' }],
      ['mlab2.lga01', { state: 'failed', failure_cause: 'reported', labels: '{"rack":"2","site":"lga"}' }],
      ['mlab1.fra01', { state: 'ready', labels: '{"rack":"1","site":"fra"}', reinstall: 'marked' }],
      ['db-1', { state: 'ready', profile: 'web' }],
    ]
    for (const [name, columns] of nodes) await storeNode(world, { name, ...columns })
    const table: [string, string][] = [
      ['match=mlab*', 'mlab1.fra01,mlab1.lga01,mlab2.lga01'],
      ['match=mlab%3F.lga01', 'mlab1.lga01,mlab2.lga01'],
      ['match=*', 'db-1,mlab1.fra01,mlab1.lga01,mlab2.lga01,node1'],
      ['match=**01', 'mlab1.fra01,mlab1.lga01,mlab2.lga01'],
      ['match=db_1', ''],
      ['match=nothing', ''],
      ['label=site%3Dlga', 'mlab1.lga01,mlab2.lga01'],
      ['label=site%3Dlga&label=rack%3D1', 'mlab1.lga01'],
      ['label=site%3Dlga&label=site%3Dlga', 'mlab1.lga01,mlab2.lga01'],
      ['profile=web', 'db-1'],
      ['reinstall=marked', 'mlab1.fra01'],
      ['reinstall=none&state=ready', 'db-1,mlab1.lga01'],
      ['state=ready&match=mlab*&label=rack%3D1&profile=demo', 'mlab1.fra01,mlab1.lga01'],
    ]
    for (const [query, expected] of table) {
      const { items } = (await send('viewer', 'GET', `nodes?${query}`)).json()
      t.equal(items.map(({ name }: { name: string }) => name).join(), expected, query)
    }
    const wrong: [string, RegExp][] = [
      ['match=MLAB', /"MLAB" is not a pattern of node names/],
      ['match=%25', /is not a pattern/],
      ['match=', /is not a pattern/],
      ['label=site%3Dlga&label=site%3Dfra', /two values of label "site"/],
      [Array(11).fill('label=a%3Db').join('&'), /label/],
      ['reinstall=often', /reinstall/],
    ]
    for (const [query, detail] of wrong)
      t.match((await send('viewer', 'GET', `nodes?${query}`)).json(), { status: 400, detail }, query)
    const images = (await send('viewer', 'GET', 'images?name=small')).json()
    t.strictSame(
      images.items.map(({ ref }: { ref: string }) => ref),
      ['small@1'],
    )
  })
})
