import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { forEachDatabase } from '../helpers/world.ts'
import { makeFleet } from './helpers/fleet.ts'
import { openInstallation, temporaryFolder } from './helpers/installation.ts'

/** Every command that prints a table, with what its first column must show whole from a width of 60 on. */
const lists: readonly (readonly [line: string, whole: RegExp])[] = [
  ['status', /^nodes +13$/m],
  ['node list', /^mlab4-ams04\.measurement-lab\.example\.org /m],
  ['node pending', /^[a-z0-9]{5}-[a-z0-9]{5} /m],
  ['node timeline mlab3-lga0t.measurement-lab.example.org', /stage3/],
  ['node reinstall --match mlab1-*', /^mlab1-lga0t\.measurement-lab\.example\.org /m],
  ['image list', /^measurement-worker@2026\.11\.0-rc\.1 /m],
  ['image prune --keep 1 --older-than 1m', /^measurement-worker@2026\.11\.0-rc\.1 /m],
  ['publisher list', /^local /m],
  ['profile list', /^demo /m],
  ['event list --limit 60', /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ /m],
  ['channel list', /^measurement-worker\/stable /m],
  ['channel history measurement-worker/stable', /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ /m],
  ['rollout list', /^[\w-]{12} /m],
  ['rollout status measurement-worker/stable', / 50%/],
  ['proposal list', /^[\w-]{12} /m],
  ['webhook list', /^tickets /m],
  ['webhook deliveries tickets', /^msg_[\w-]{22} /m],
  ['operator token list', /^[\w-]{12} /m],
]
const widths = [40, 60, 80, 120, 200]

await forEachDatabase(t, async (t, openWorld) => {
  if (t.name === 'on PostgreSQL') {
    t.pass('the command line does not see which database it is')
    return
  }
  const installation = await openInstallation(t, openWorld)
  await makeFleet(installation)
  const shown: string[] = []
  await t.test('known_hosts lines are those that ssh reads', async (t) => {
    const { stdout } = await installation.run(['node', 'known-hosts'])
    const [line = ''] = stdout.split('\n')
    t.match(line, /^mlab1-ams04\.measurement-lab\.example\.org,192\.0\.2\.21 ssh-ed25519 AAAA[\w+/]+$/)
    t.equal(stdout.trim().split('\n').length, 3)
    const asked = ['node', 'known-hosts', 'mlab2-lga0t.measurement-lab.example.org']
    t.match(await installation.run(asked), { exit: 0, stdout: '', stderr: /told no SSH host keys/ })
    const file = join(temporaryFolder(t), 'known_hosts')
    writeFileSync(file, stdout)
    const absent = spawnSync('ssh-keygen', ['-?']).error !== undefined
    if (absent && process.env.PAWL_REQUIRE !== 'all') return
    for (const host of ['mlab1-lax02.measurement-lab.example.org', '192.0.2.11'])
      t.equal(spawnSync('ssh-keygen', ['-F', host, '-f', file]).status, 0, host)
  })
  await t.test('tables fit the terminal, and what one types next stays whole', async (t) => {
    for (const [line, whole] of lists) {
      for (const terminal of [...widths, undefined]) {
        const { exit, stdout } = await installation.run(line.split(' '), { terminal, env: { NO_COLOR: '1' } })
        shown.push(`$ pawl ${line}   # ${terminal ?? 'pipe'}`, stdout)
        t.equal(exit, 0, line)
        for (const row of stdout.split('\n').filter((one) => !one.startsWith('would remove')))
          t.ok(row.length <= (terminal ?? 10_000), `${line} at ${terminal}: ${row}`)
        if (terminal !== 40) t.match(stdout, whole, `${line} at ${terminal}`)
        if (terminal === undefined) t.notMatch(stdout, '…', 'a pipe gets all')
      }
    }
  })
  const folder = process.env.PAWL_SHOW // to look at them
  if (folder === undefined) return
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${folder}/tables.txt`, shown.join('\n'))
})
