import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { parseWireguardKey } from '../../src/domain/wireguard-key.ts'
import { storeDemoFleet, storeNode } from '../helpers/fleet.ts'
import { boot, machineOf, report } from '../helpers/machine.ts'
import { forEachDatabase } from '../helpers/world.ts'
import { openInstallation } from './helpers/installation.ts'

const withJq = {
  skip: spawnSync('which', ['jq']).status !== 0 && process.env.PAWL_REQUIRE !== 'all' && 'jq not installed',
}
const wireguardPublicKey = parseWireguardKey('xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=')

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'the key of a tunnel is with its node, and peers are made of it as the docs say',
    withJq,
    async (t) => {
      const { world, run } = await openInstallation(t, openWorld)
      const secret = await storeDemoFleet(world)
      await storeNode(world, { name: 'node2', state: 'ready', labels: '{"wireguard":"10.8.0.9"}' })
      await run(['node', 'set', 'node1', '--label', 'wireguard=10.8.0.7'])
      const shown = async (name: string) => (await run(['node', 'show', name])).stdout
      t.notMatch(await shown('node1'), 'wireguard ', 'none yet')
      const learnt = await boot(world, machineOf(secret), 'join')
      await report(world, machineOf(secret), learnt.report, 'success', { wireguardPublicKey })
      t.match(await shown('node1'), new RegExp(`^wireguard +${wireguardPublicKey}$`, 'm'))
      t.notMatch(await shown('node2'), /^wireguard /m)

      const docs = readFileSync(new URL('../../docs/joining.md', import.meta.url), 'utf8')
      const [, command = '', program = ''] = /^pawl (.+) \| jq -r '([^']+)'/m.exec(docs) ?? []
      const peers = async (): Promise<string> => {
        const input = (await run(command.split(' '))).stdout
        return spawnSync('jq', ['-r', program], { input, encoding: 'utf8' }).stdout
      }
      const peer = `# node1\n[Peer]\nPublicKey = ${wireguardPublicKey}\nAllowedIPs = 10.8.0.7/32\n\n`
      t.equal(await peers(), peer)
      await run(['node', 'disable', 'node1'])
      t.equal(await peers(), '', 'who is not in service is no peer')
    },
  )
})
