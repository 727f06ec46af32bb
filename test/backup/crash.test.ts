import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { initPawl } from '../../src/init.ts'
import { verifyChains } from '../../src/storage/events.ts'
import { backup, install, restore, temporaryFolder, withStorage } from './helpers.ts'

const child = join(import.meta.dirname, 'crash-child.ts')

/** Runs one to its end, or to its nth step. */
function run(
  kind: 'backup' | 'restore',
  at: number,
  ...args: readonly string[]
): { killed: boolean; steps: number } {
  const ran = spawnSync(process.execPath, [child, kind, String(at), ...args], { encoding: 'utf8' })
  if (ran.signal === null && ran.status !== 0) throw new Error(ran.stderr)
  return { killed: ran.signal === 'SIGKILL', steps: Number(ran.stdout) }
}

t.test('a backup that is killed anywhere leaves no file, and the next is whole', async (t) => {
  const installed = await install(t)
  const { dataDir, database } = installed
  const folder = temporaryFolder(t)
  const { steps } = run('backup', 0, dataDir, database, join(folder, 'whole.tar'))
  t.ok(steps > 20, `${steps} steps`)
  for (let at = 1; at <= steps; at += 4) {
    t.equal(run('backup', at, dataDir, database, join(folder, 'cut.tar')).killed, true, `step ${at}`)
    t.notOk(existsSync(join(folder, 'cut.tar')), `step ${at}: no file under its name`)
  }
  t.match(await backup(installed, join(folder, 'next.tar'), { isAlive: () => false }), {
    artifactCount: 9,
    missing: [],
  })
  t.same(readdirSync(join(dataDir, 'artifacts')).sort(), ['sha256'], 'what the killed ones held is let go')
  await withStorage(database, async ({ db }) => t.same((await verifyChains(db)).faults, []))
})

t.test('a restore that is killed anywhere is not taken for one that is done, and the next is', async (t) => {
  const installed = await install(t)
  const file = join(temporaryFolder(t), 'pawl.tar')
  await backup(installed, file)
  const whole = join(temporaryFolder(t), 'whole')
  const { steps } = run('restore', 0, whole, join(whole, 'pawl.db'), file)
  t.ok(steps > 8, `${steps} steps`)
  const dataDir = join(temporaryFolder(t), 'to')
  const database = join(dataDir, 'pawl.db')
  for (let at = 1; at < steps; at += 1) {
    t.equal(run('restore', at, dataDir, database, file).killed, true, `step ${at}`)
    const init = { dataDir, database, publicUrl: undefined, names: [], now: new Date() }
    await t.rejects(
      initPawl(init),
      { code: 'conflict', message: /a restore into .* was cut off/ },
      `step ${at}: nothing starts`,
    )
  }
  await restore(file, dataDir, database)
  t.same(readdirSync(dataDir).sort(), readdirSync(whole).sort())
  await withStorage(database, async ({ db }) => t.same((await verifyChains(db)).faults, []))
})
