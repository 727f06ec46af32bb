import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

/**
 * Which boot listeners stage 3 closes for everybody but root: its own shell functions, run here. That nobody gets through is
 * tried by each machine at its boot, in test/boot too.
 */
const programs = ['jq']
const absent = programs.filter((name) => spawnSync('which', [name]).status !== 0)
const needs = {
  skip: absent.length > 0 && process.env.PAWL_REQUIRE !== 'all' && `${absent.join(', ')} not installed`,
}
const folder = mkdtempSync(join(tmpdir(), 'pawl-firewall-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const images = join(import.meta.dirname, '../../images')
const agent = readFileSync(join(images, 'filesystem/stage3.sh'), 'utf8').replace(/^\. .*$/m, '')
const words = /^JQ_WORD=.*$/m.exec(readFileSync(join(images, 'lib/agent.sh'), 'utf8'))?.[0]

/** The rules of the chain for this machine's own users, and which addresses are tried: before and behind the answer of stage 3. */
function closed(base: string, answer: Readonly<Record<string, unknown>>) {
  writeFileSync(
    join(folder, 'stage3.json'),
    JSON.stringify({ configuration: {}, tokens: { join: 't' }, ...answer }),
  )
  const script = `set -u
${words}
${agent}
RUN=${folder} BASE=${base}
say() { echo "said $*"; }
fail() { echo "failed $*"; exit 1; }
modprobe() { :; }
nft() { sed -n '/hook output/,/}/s/^    /rule /p' "$2"; sed -n '/hook forward/,/}/s/^    /forward /p' "$2"; }
su() { echo "tried $*" | sed 's/.*nc -w 5 /tried /;s/ <.*//' >>${folder}/tried; echo 65534; echo closed; }
: >${folder}/tried
find_boot_listener
protect_boot_listener
echo then
read_stage3
cat ${folder}/tried`
  const { stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8' })
  return `${stdout}${stderr}`.trim().split('\n')
}

const own = (address: string, port: string) => `rule ${address}tcp dport ${port} meta skuid != 0 goto closed`
const passed = (address: string, port: string) => `forward ${address}tcp dport ${port} goto closed`
const blocked = 'said unprivileged access to the boot listener is blocked'

t.test('stage 3 closes the listener that it came by', needs, async (t) => {
  const cases: [string, string, string, string][] = [
    ['https://192.0.2.1:8443/v1/boot/n', 'ip daddr 192.0.2.1 ', '8443', '192.0.2.1 8443'],
    ['https://[2001:db8::1]:8443/v1/boot/n', 'ip6 daddr 2001:db8::1 ', '8443', '2001:db8::1 8443'],
    ['https://[2001:db8::1]/v1/boot/n', 'ip6 daddr 2001:db8::1 ', '443', '2001:db8::1 443'],
  ]
  for (const [base, address, port, tried] of cases) {
    const rules = [own(address, port), passed(address, port), blocked]
    t.same(closed(base, {}), [...rules, 'then', `tried ${tried}`], base)
  }
  const name = [own('', '8443'), passed('', '8443')]
  t.same(closed('https://boot.example.com:8443/v1/boot/n', {}), [...name, 'then'], 'by a name: the port')
})

t.test('while a root is rotated, both: a user of the node has its address at either', needs, async (t) => {
  const before = [own('ip daddr 192.0.2.1 ', '8442'), passed('ip daddr 192.0.2.1 ', '8442'), blocked, 'then']
  const both = ['https://192.0.2.1:8442', 'https://[2001:db8::1]:8443', 'https://boot.example.com']
  t.same(closed('https://192.0.2.1:8442/v1/boot/n', { bootListeners: both }), [
    ...before,
    ...[own('ip daddr 192.0.2.1 ', '8442'), own('ip6 daddr 2001:db8::1 ', '8443'), own('', '443')].toSorted(),
    ...[
      passed('ip daddr 192.0.2.1 ', '8442'),
      passed('ip6 daddr 2001:db8::1 ', '8443'),
      passed('', '443'),
    ].toSorted(),
    blocked,
    'tried 192.0.2.1 8442',
    'tried 192.0.2.1 8442',
    'tried 2001:db8::1 8443',
  ])
})

t.test('what is no listener gets into no rule', needs, async (t) => {
  const hostile = [
    ...[
      'https://a b',
      'https://192.0.2.1:1 accept',
      'https://x;reboot',
      'https://$(reboot)',
      'https://x:1/y',
    ],
    ...['https://x:*', 'http://x', 'https://x\nhttps://y', 'https://[::1', 'https://x:123456'],
  ]
  const rules = closed('https://192.0.2.1:8443/v1/boot/n', { bootListeners: hostile })
  t.same(rules.slice(3), ['then', 'tried 192.0.2.1 8443'])
})
