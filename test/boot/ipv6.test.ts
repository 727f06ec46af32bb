import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ensureArtifacts } from './helpers/artifacts.ts'
import { networkAbsent, startNetwork, type TestNetwork } from './helpers/network.ts'
import { run } from './helpers/process.ts'
import { applyProfile, eventsOf, factsOf, profile, startSite } from './helpers/site.ts'
import { ensureBootTools } from './helpers/tools.ts'

/**
 * Networks without IPv4. First the agents' own network scripts, in the stage-2 initramfs as it is built and in a namespace of
 * their own: what they make of what routers and DHCPv6 servers say. Then a whole boot.
 */
const absent = networkAbsent()
const server = 'fd00:93::1'
const { uuid, mac } = factsOf('six')
const slaacAddress = 'fd00:93::5054:ff:fe12:3456'

if (absent !== undefined) t.plan(0, absent)
else {
  ensureBootTools()
  const network = await startNetwork({ addresses: [`${server}/64`] })
  t.teardown(() => network.stop())
  t.test('the agents bring up what iPXE had, or say why not', (t) => tryAgents(t, network))
  t.test('a machine boots to ready over IPv6 alone', (t) => boot(t, network))
}

/** What dnsmasq is told beside this. */
const configuration = (more: string): string => `port=0
interface=br0
bind-interfaces
log-dhcp
enable-ra
${more}
dhcp-option=option6:dns-server,[${server}]
`

async function tryAgents(t: Test, network: TestNetwork): Promise<void> {
  const agent = await unpackAgent(t, network)
  const routed = { method6: 'slaac' }
  t.match(
    await agent(routed),
    /error: no IPv6 router answers on eth0\npawl: boot: hint: check the cable, the VLAN, and that a router advertises IPv6 here/,
    'no router',
  )
  const taken = { method6: 'static', address6: server, prefix6: 64 }
  t.match(
    await agent(taken),
    /error: another machine on eth0 has the address fd00:93::1\n/,
    'a taken address',
  )
  const given = {
    method6: 'static',
    address6: 'fd00:93::77',
    prefix6: 64,
    gateway6: 'fe80::1',
    dns6: 'fd00:93::53',
  }
  t.match(
    await agent(given),
    /network up: eth0 fd00:93::77\/64\nnameserver fd00:93::53\ndefault via fe80::1 dev eth0 [^\n]*\nipv6\n/,
    'an address by hand',
  )

  const withoutLease = await network.dnsmasq(configuration('dhcp-range=fd00:93::,static,64,1h'))
  t.match(
    await agent(routed),
    /error: a router answers on eth0, but nobody gives an IPv6 address\n/,
    'a router that leaves addresses to a DHCPv6 server without any',
  )
  await withoutLease.stop()

  const router = await network.dnsmasq(configuration('dhcp-range=fd00:93::,ra-stateless,64,1h'))
  const up = await agent({ ...routed, address6: slaacAddress })
  t.match(
    up,
    new RegExp(`^pawl: boot: network up: eth0 ${slaacAddress}/64\nnameserver ${server}\ndefault via fe80:`),
  )
  const other = await agent({ ...routed, address6: 'fd00:93::99' })
  t.match(
    other,
    `iPXE had the address fd00:93::99, this system has ${slaacAddress}/64`,
    'it goes on, and says so',
  )
  await router.stop()
}

/** Unpacks the initramfs; returns what runs its network scripts on a NIC of their own, with this NIC in the handover. */
async function unpackAgent(t: Test, network: TestNetwork): Promise<(nic: object) => Promise<string>> {
  const root = mkdtempSync(join(tmpdir(), 'pawl-agent-'))
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  const { stage2 } = await ensureArtifacts()
  await run('sh', ['-c', `cd "$1" && gzip -dc "$2" | cpio -idm --quiet`, 'sh', root, stage2.initramfs])
  mkdirSync(join(root, 'run/pawl'), { recursive: true })
  const client = `${network.name}-client`
  return async (nic) => {
    const handover = {
      version: 1,
      host: 'six',
      session: 's',
      base: `https://[${server}]:8443/v1/boot/six`,
      ca: 'x',
      time: null,
      tokens: { report: 'r' },
      nic: { mac: '52:54:00:12:34:56', dhcp: true, family: 6, ...nic },
    }
    writeFileSync(join(root, 'run/pawl/handover.json'), JSON.stringify(handover))
    await run('ip', ['netns', 'add', client])
    try {
      await network.run('ip', ...`link add client0 type veth peer name eth0 netns ${client}`.split(' '))
      await network.run('ip', ...'link set client0 master br0 up'.split(' '))
      await run('ip', ['-n', client, 'link', 'set', 'eth0', 'address', '52:54:00:12:34:56'])
      return await run('ip', ['netns', 'exec', client, 'sh', '-c', script, 'sh', root])
    } finally {
      await run('ip', ['netns', 'del', client])
    }
  }
}

/** In process and mount namespaces of its own: what it starts ends with it, and it can end nothing else. */
const script = `exec unshare --mount --pid --fork sh -c '
mount -t proc proc "$1/proc" && mount --bind /sys "$1/sys" && mount --bind /dev "$1/dev" &&
exec chroot "$1" /bin/sh -c "
. /usr/lib/pawl/agent.sh
reboot_later() { exit 0; }
rm -f /etc/resolv.conf
NETWORK_TRIES=1 ROUTER_SECONDS=6
read_handover
network_up
cat /etc/resolv.conf
ip -6 route show default
tail -n 1 /run/pawl/curl.conf
stop_dhcpcd
" 2>&1' sh "$1"`

/**
 * The server has one IPv6 address, its certificate and every URL have it too, and dnsmasq gives addresses by DHCPv6, to a client
 * id: iPXE and both systems after it must ask as the same client, or they get another address than the one that the machine proves
 * itself with.
 */
async function boot(t: Test, network: TestNetwork): Promise<void> {
  const own = 'fd00:93::10'
  const site = await startSite({ network, address: server })
  t.teardown(() => site.stop())
  const client = `00:04:${uuid.replaceAll('-', '').match(/../g)?.join(':')}`
  const dnsmasq = await network.dnsmasq(
    configuration(`dhcp-range=fd00:93::100,fd00:93::1ff,64,1h\ndhcp-host=id:${client},[${own}]`),
  )
  await applyProfile(site, `${profile()}evidence: [address, secret]\n`)
  const autoexec = await site.addNode('six', '--address', own, '--mac', mac)
  const machine = await site.powerOn('six', autoexec, { tap: await network.tap(), timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: ready', 600)
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
  t.same(
    (await eventsOf(site, '--node', 'six')).map(({ kind }) => kind),
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
}
