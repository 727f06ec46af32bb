import t from 'tap'
import { networkAbsent, startNetwork } from './helpers/network.ts'
import { applyProfile, eventsOf, factsOf, profile, startSite } from './helpers/site.ts'

/**
 * A network without IPv4: the server has one IPv6 address, its certificate and every URL have it too, and dnsmasq gives addresses
 * by DHCPv6, to a client id: iPXE and both systems after it must ask as the same client, or they get another address than the one
 * that the machine proves itself with.
 */
const absent = networkAbsent()
if (absent !== undefined) t.plan(0, absent)
else await boot()

async function boot(): Promise<void> {
  const server = 'fd00:93::1'
  const own = 'fd00:93::10'
  const { uuid, mac } = factsOf('six')
  const network = await startNetwork({ addresses: [`${server}/64`] })
  t.teardown(() => network.stop())
  const site = await startSite({ network, address: server })
  t.teardown(() => site.stop())
  const dnsmasq = await network.dnsmasq(`port=0
interface=${network.bridge}
bind-interfaces
log-dhcp
enable-ra
dhcp-range=fd00:93::100,fd00:93::1ff,64,1h
dhcp-host=id:00:04:${uuid.replaceAll('-', '').match(/../g)?.join(':')},[${own}]
dhcp-option=option6:dns-server,[${server}]
`)
  await applyProfile(
    site,
    `${profile()}evidence: { boot: [address, secret], reinstall: [address, secret] }\n`,
  )
  const autoexec = await site.addNode('six', '--address', own, '--mac', mac)

  t.test('a machine boots to ready over IPv6 alone', async (t) => {
    const machine = await site.powerOn('six', autoexec, { tap: await network.tap(), timeoutSeconds: 300 })
    t.teardown(() => machine.powerOff())
    await machine.waitFor('pawl: ready', 300)
    await machine.exited
    const console = machine.console()
    for (const marker of [
      `Pawl: node six, server https://[${server}]:${site.bootPort}`,
      `pawl: stage2: network up: eth0 ${own}/128`,
      `pawl: stage3: network up: eth0 ${own}/128`,
      'pawl: stage3: unprivileged access to the boot listener is blocked',
    ])
      t.ok(console.includes(marker), `console has "${marker}"`)
    t.notMatch(console, /10\.\d+\.\d+\.\d+/, 'no IPv4 address anywhere')
    t.match(await site.pawl('node', 'show', 'six'), { state: 'ready', session: { state: 'ready' } })
    const events = await eventsOf(site, '--node', 'six')
    t.same(
      events.map(({ kind }) => kind),
      [
        'node-added',
        'secret-issued',
        'session-opened',
        'handover-opened',
        'stage2-redeemed',
        'stage3-redeemed',
        'join-redeemed',
        'session-ready',
      ],
      'nothing else happened',
    )
    t.match(dnsmasq.log(), new RegExp(`DHCPREPLY\\(br0\\) ${own}`))
    const { stages } = await site.pawl('node', 'timeline', 'six')
    t.comment(stages.map((s: { stage: string; seconds: number }) => `${s.stage} ${s.seconds} s`).join(', '))
  })
}
