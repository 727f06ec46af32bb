import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

const lib = join(import.meta.dirname, '../../images/lib/transfer.sh')

/** Pauses so many times, as the agents do; how long each was, and the next wait. */
function pauses(wait: number, retryAfter: number, times: number): { seconds: number[]; next: string } {
  const script = `set -u
RUN=/nowhere
say() { :; }
sleep() { echo "$1"; }
. ${lib}
RETRY_AFTER=${retryAfter}
n=0
while [ $n -lt ${times} ]; do pause ${wait}; n=$((n + 1)); done
echo "next $NEXT_WAIT"`
  const { stdout, stderr, status } = spawnSync('sh', ['-c', script], { encoding: 'utf8' })
  t.same([status, stderr], [0, ''])
  const lines = stdout.trim().split('\n')
  return { next: lines.at(-1) ?? '', seconds: lines.slice(0, -1).map(Number) }
}

const range = (seconds: number[]): [number, number] => [Math.min(...seconds), Math.max(...seconds)]

t.test('a pause is never shorter than the server asked for, and not the same for all', async (t) => {
  const { seconds, next } = pauses(1, 40, 400)
  const [least, most] = range(seconds)
  t.ok(least >= 40 && most <= 60, `${least} to ${most}`)
  t.ok(new Set(seconds).size > 12, 'spread over twenty seconds')
  t.equal(next, 'next 2', 'what the server asks for is not doubled')
})

t.test(
  'without a word from the server it is the own wait, and the next one is twice as long, to 30 s',
  async (t) => {
    const { seconds, next } = pauses(8, 0, 200)
    const [least, most] = range(seconds)
    t.ok(least >= 8 && most <= 12, `${least} to ${most}`)
    t.equal(next, 'next 16')
    t.equal(pauses(30, 0, 1).next, 'next 30')
  },
)

t.test(
  'a join that waits for its cluster says why in one line, and comes again with the same key',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'pawl-redeem-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const script = `set -u
RUN=${folder} BASE=https://b SPANS=${folder}/spans RETRY_SECONDS=1800 STAGE=stage3
. ${lib}
say() { echo "$*"; }
fail() { echo "error: $1"; exit 3; }
sleep() { :; }
uptime_seconds() { echo 1; }
new_idempotency_key() { cat /proc/sys/kernel/random/uuid; }
write_headers() { : >"$1"; }
n=0
request() {
  n=$((n + 1)) RETRY_AFTER=0
  cat "$1" >>"$RUN/keys"
  if [ $n -lt 3 ]; then
    HTTP_STATUS=503 REQUEST_ERROR='HTTP 503'
    printf 'the join waits: no answer \\033[31mfrom the API\\nsecond line\\n' >"$2"
  else
    HTTP_STATUS=200
    echo '{}' >"$2"
  fi
}
redeem join token "$RUN/join.json"
echo "done after $n; $(sort -u "$RUN/keys" | wc -l) key"`
    const { stdout, stderr, status } = spawnSync('sh', ['-c', script], { encoding: 'utf8' })
    t.same([status, stderr], [0, ''])
    const lines = stdout.trim().split('\n')
    t.equal(lines[0], 'no answer to join (HTTP 503): the join waits: no answer  [31mfrom the API ')
    t.notMatch(stdout, 'second line')
    t.equal(lines.at(-1), 'done after 3; 1 key')
  },
)
