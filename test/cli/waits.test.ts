import t from 'tap'
import { takeHeartbeat } from '../../src/fleet/processes.ts'
import { openGate } from '../../src/http/gate.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { forEachDatabase, worldBegins } from '../helpers/world.ts'
import { openInstallation } from './helpers/installation.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('the queue of an overloaded server is in pawl status, node list and node show', async (t) => {
    const pawl = await openInstallation(t, openWorld)
    const { world } = pawl
    await storeDemoFleet(world)
    const quiet = await pawl.run(['node', 'list'])
    t.notMatch(quiet.stdout, 'WAITS', 'where nobody waits there is no column for it')
    const gate = openGate()
    gate.close()
    const at = worldBegins.toISOString()
    const told = { request: 'stage1.ipxe', source: '192.0.2.1', since: at, at, times: 3, until: at }
    await takeHeartbeat(world.context, {
      process: { id: 'a', host: 'boot-1', pid: 7, role: 'server', startedAt: at },
      load: { ...gate.load(), waiting: 5, nodesWaiting: 1, nodes: [{ node: 'node1', ...told }] },
      spells: [],
      nodes: [],
    })
    const list = await pawl.run(['node', 'list'])
    t.match(list.stdout, /^NAME .* WAITS\b/m)
    t.match(list.stdout, /^node1\b.* stage1\.ipxe, /m)
    const json = await pawl.run(['node', 'list', '--json'])
    t.match(JSON.parse(json.stdout).items[0], {
      name: 'node1',
      waiting: { request: 'stage1.ipxe', times: 3 },
    })
    const show = await pawl.run(['node', 'show', 'node1'])
    t.match(show.stdout, /stage1\.ipxe, from 192\.0\.2\.1: told 3 times to come again/)
    t.match((await pawl.run(['status'])).stdout, /5 in the queue.*\n.*1 node told to come again/)
    const why = 'no answer from the Kubernetes API in time'
    await takeHeartbeat(world.context, {
      process: { id: 'a', host: 'boot-1', pid: 7, role: 'server', startedAt: at },
      load: { ...gate.load(), nodes: [{ node: 'node1', ...told, request: 'join', why }] },
      spells: [],
      nodes: [],
    })
    const joins = await pawl.run(['node', 'list'])
    t.match(joins.stdout, /^node1\b.* join, .*: no answer from the Kubernetes API in time$/m)
    const joining = await pawl.run(['node', 'show', 'node1'])
    t.match(joining.stdout, /^waiting +its join waits: no answer from the Kubernetes API in time$/m)
    t.notMatch(joining.stdout, 'busy')
    t.match(JSON.parse((await pawl.run(['node', 'show', 'node1', '--json'])).stdout).waiting, { why })
  })
})
