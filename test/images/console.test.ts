import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

const lib = join(import.meta.dirname, '../../images/lib/transfer.sh')
const token = 'AbCdEfGhIjKl0123456789_-0123456789_-01234567'

/** What an agent sends of a console. */
function sent(t: Test, console: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-console-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(join(folder, 'console.log'), console)
  writeFileSync(join(folder, 'report.headers'), 'x')
  const script = `set -u
RUN=${folder} CONSOLE=$RUN/console.log NETWORK_IS_UP=yes BASE=b STAGE=stage2 TOKEN_STAGE2=${token} HTTP_STATUS=
say() { :; }
. ${lib}
request() { cat "$RUN/console.sent"; HTTP_STATUS=204; }
send_console`
  const { stdout, stderr, status } = spawnSync('sh', ['-c', script], { encoding: 'utf8' })
  t.same([status, stderr], [0, ''])
  return stdout
}

t.test('a token that the last 64 KiB would cut in two is taken out whole', async (t) => {
  const behind = `${'x'.repeat(65_535 - 40)}\n`
  t.notMatch(sent(t, `${token}${behind}`), token.slice(8))
})

t.test('a token is taken out, and the last 64 KiB are sent', async (t) => {
  t.equal(sent(t, `one\ntwo ${token}\n`), 'one\ntwo ***\n')
  t.equal(sent(t, `${'y'.repeat(70_000)}\n`).length, 65_536)
})
