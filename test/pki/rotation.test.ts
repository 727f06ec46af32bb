import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openAuthority } from '../../src/pki/authority.ts'
import { initData } from '../../src/pki/data-folder.ts'
import { hasNext, retiredLabels, retiredRoots } from '../../src/pki/places.ts'
import { cutOver, finishCutOver, hasHalfNext, makeNext } from '../../src/pki/rotation.ts'
import { loadTls } from '../../src/pki/tls.ts'
import { rootFingerprint } from '../../src/pki/x509.ts'

/** A root's rotation on the disk: two CAs, one in the place of the other, and a kill at every step. */
const now = new Date('2026-11-21T06:00:00.000Z')
const names = ['boot.example.test']

async function makeData(t: Test): Promise<string> {
  const dataDir = join(t.testdir({}), 'data')
  await initData({ dataDir, publicUrl: undefined, names: [], now })
  return dataDir
}

/** What a server has on its disk while both roots are served. */
async function bothServed(t: Test): Promise<{ dataDir: string; from: string; to: string }> {
  const dataDir = await makeData(t)
  await makeNext(dataDir, now)
  const boot = { kind: 'boot', names, now, ecdsa: true } as const
  await loadTls(openAuthority(dataDir), boot)
  await loadTls(openAuthority(dataDir, 'next'), boot)
  await loadTls(openAuthority(dataDir), { kind: 'operator', names, now })
  const [from, to] = (['current', 'next'] as const).map((one) =>
    rootFingerprint(openAuthority(dataDir, one).rootCertificate),
  )
  return { dataDir, from: from!, to: to! } // both were mapped
}

const rootOf = (dataDir: string): string => rootFingerprint(openAuthority(dataDir).rootCertificate)

t.test('there is nothing to cut over to before the next CA is whole', async (t) => {
  const dataDir = await makeData(t)
  t.throws(() => cutOver(dataDir), { code: 'conflict', hint: /pawl root rotate/ })
  await makeNext(dataDir, now)
  rmSync(join(dataDir, 'pki/next/issuing.crt'))
  t.equal(hasNext(dataDir), false)
  t.equal(hasHalfNext(dataDir), true)
  t.throws(() => cutOver(dataDir), { code: 'conflict' })
})

t.test('the next CA is made once, apart from the other, and completed where it was cut off', async (t) => {
  const dataDir = await makeData(t)
  const before = rootOf(dataDir)
  t.same(
    await makeNext(dataDir, now),
    ['root.key', 'ca.crt', 'issuing.key', 'issuing.crt'].map((f) => `pki/next/${f}`),
  )
  t.equal(rootOf(dataDir), before, 'the root there is stays')
  const next = rootFingerprint(openAuthority(dataDir, 'next').rootCertificate)
  t.not(next, before)
  t.same(await makeNext(dataDir, now), [])
  t.equal(statSync(join(dataDir, 'pki/next/root.key')).mode & 0o777, 0o600)
  rmSync(join(dataDir, 'pki/next/issuing.crt'))
  t.same(await makeNext(dataDir, now), ['pki/next/issuing.crt'])
  renameSync(join(dataDir, 'pki/next/root.key'), join(dataDir, '..', 'offline.key'))
  t.same(await makeNext(dataDir, now), [], 'its root key may be offline')
  t.equal(rootFingerprint(openAuthority(dataDir, 'next').rootCertificate), next)
})

t.test('a cut-over puts the next CA in place and keeps the old one', async (t) => {
  const { dataDir, from, to } = await bothServed(t)
  const old = readFileSync(join(dataDir, 'pki/root.key'), 'utf8')
  const retired = cutOver(dataDir)
  t.equal(rootOf(dataDir), to)
  t.equal(retired, join(dataDir, 'pki/retired', from.slice(0, 16)))
  t.same(retiredLabels(dataDir), [from.slice(0, 16)])
  t.equal(rootFingerprint(retiredRoots(dataDir)), from)
  t.same(
    readdirSync(retired).sort(),
    ['boot-ecdsa.pem', 'boot.pem', 'ca.crt', 'issuing.crt', 'issuing.key', 'operator.pem', 'root.key'].sort(),
  )
  t.equal(readFileSync(join(retired, 'root.key'), 'utf8'), old)
  t.equal(existsSync(join(dataDir, 'pki/next')), false)
  t.equal(
    existsSync(join(dataDir, 'pki/operator.pem')),
    false,
    'the operator listener gets one of the new CA',
  )
  t.throws(() => cutOver(dataDir), { code: 'conflict' }, 'once')
})

t.test('with both root keys offline, and none of the old one stays in the place of the new', async (t) => {
  const { dataDir, to } = await bothServed(t)
  rmSync(join(dataDir, 'pki/next/root.key'))
  const retired = cutOver(dataDir)
  t.equal(rootOf(dataDir), to)
  t.equal(openAuthority(dataDir).rootKeyIsHere(), false, 'the old root key is not taken for the new one')
  t.ok(existsSync(join(retired, 'root.key')))
})

t.test('killed at any step, nothing is opened half way, and the next start finishes it', async (t) => {
  const steps: string[] = []
  const made = await bothServed(t)
  const copied = (t: Test): string => {
    const dataDir = join(t.testdir({}), 'copy')
    cpSync(made.dataDir, dataDir, { recursive: true })
    return dataDir
  }
  await t.test('the steps', async (t) => cutOver(copied(t), (step) => void steps.push(step)))
  t.equal(steps.length, 17, steps.join(', '))
  for (const [at, step] of steps.entries()) {
    await t.test(step, async (t) => {
      const { from, to } = made
      const dataDir = copied(t)
      const oldKey = readFileSync(join(dataDir, 'pki/issuing.key'), 'utf8')
      let count = 0
      const kill = (): void => {
        count += 1
        if (count === at + 1) throw new Error('killed')
      }
      t.throws(() => cutOver(dataDir, kill), /killed/)
      t.throws(() => openAuthority(dataDir), { code: 'conflict', hint: /finishes it/ }, 'refused until then')
      t.ok(finishCutOver(dataDir), 'finished')
      t.equal(rootOf(dataDir), to, 'the new root')
      const retired = join(dataDir, 'pki/retired', from.slice(0, 16))
      t.equal(rootFingerprint(readFileSync(join(retired, 'ca.crt'), 'utf8')), from, 'the old root is kept')
      t.equal(readFileSync(join(retired, 'issuing.key'), 'utf8'), oldKey, 'and its key')
      const tls = await loadTls(openAuthority(dataDir), { kind: 'boot', names, now, ecdsa: true })
      t.equal(tls.root, to)
      t.equal(finishCutOver(dataDir), undefined, 'once')
    })
  }
})

t.test('a journal that no cut-over wrote is refused', async (t) => {
  const { dataDir } = await bothServed(t)
  for (const text of ['', '{}', '{"step":"retire","label":"../x","has":[]}']) {
    writeFileSync(join(dataDir, 'pki/cut-over.json'), text, { mode: 0o600 })
    t.throws(() => finishCutOver(dataDir), { code: 'invalid', hint: /backup/ }, JSON.stringify(text))
  }
})
