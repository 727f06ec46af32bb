import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import t, { type Test } from 'tap'
import { openStory } from '../../src/fleet/open-story.ts'
import { buildBootListener } from '../../src/http/boot-listener.ts'
import { type ArtifactRedirects, openArtifactStore } from '../../src/images/artifacts.ts'
import { openArtifactCache } from '../../src/images/cache.ts'
import { listStages } from '../../src/storage/sessions.ts'
import { demoProfile, publishImage, storeNode, storeProfile } from '../helpers/fleet.ts'
import { askHandover, askStage, askStage1, boot, machineOf } from '../helpers/machine.ts'
import { forEachDatabase, type OpenWorld } from '../helpers/world.ts'

const origin = 'https://s3.example.net'
const ca = '-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n'
const redirects: ArtifactRedirects = {
  origin,
  ca,
  urlOf: async (digest) => `${origin}/images/${digest}?X-Amz-Signature=a-secret`,
}
const limits = {
  maxBodyBytes: 65_536,
  requestTimeoutSeconds: 15,
  idleTimeoutSeconds: 15,
  maxConnections: 100,
}
const base = '/v1/boot/node1'

interface Wish {
  readonly profile?: object
  readonly store?: ArtifactRedirects | undefined
}

/** A listener whose artifacts are elsewhere, the machine `node1`, and its requests for bytes. */
async function open(t: Test, openWorld: OpenWorld, { profile = { redirects: true }, ...wish }: Wish = {}) {
  const plain = await openWorld()
  const store = 'store' in wish ? wish.store : redirects
  const world = {
    ...plain,
    context: { ...plain.context, ...(store === undefined ? {} : { redirects: store }) },
  }
  await publishImage(world, 'small@1', 'a', false)
  await publishImage(world, 'full@1', 'c')
  await storeProfile(world, { ...demoProfile, reinstall: demoProfile.boot, ...profile })
  const machine = machineOf(await storeNode(world, { name: 'node1' }))
  const folder = mkdtempSync(join(tmpdir(), 'pawl-artifacts-'))
  const lines: string[] = []
  const app = buildBootListener(openStory(world.context), {
    tls: {},
    log: pino({}, { write: (line: string) => void lines.push(line) }),
    limits,
    trustedProxies: [],
    artifacts: openArtifactCache(await openArtifactStore(folder)),
  })
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true, force: true })
  })
  const ask = async (role: string, capability: string, more: Record<string, string> = {}, method = 'GET') => {
    const answer = await app.inject({
      method: method as 'GET',
      url: `${base}/artifacts/${role}`,
      headers: { authorization: `Bearer ${capability}`, 'pawl-follows-redirects': '1', ...more },
    })
    const { location, 'cache-control': cached } = answer.headers
    return { status: answer.statusCode, location, cached, body: answer.body }
  }
  return { world, machine, ask, lines }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('nobody is sent elsewhere who cannot go there, or may not', async (t) => {
    const cases: [string, Wish, Record<string, string>, string][] = [
      ['the profile does not say so', { profile: {} }, {}, 'GET'],
      ['the profile says no', { profile: { redirects: false } }, {}, 'GET'],
      ['artifacts are in a folder', { store: undefined }, {}, 'GET'],
      ['the agent does not follow', {}, { 'pawl-follows-redirects': '' }, 'GET'],
      ['it only asks', {}, {}, 'HEAD'],
      ['there is nothing to send', {}, { range: 'bytes=5000-' }, 'GET'],
      ['it has it', {}, { 'if-none-match': '*' }, 'GET'],
    ]
    for (const [name, wish, headers, method] of cases) {
      const { world, machine, ask } = await open(t, openWorld, wish)
      const { capability } = await boot(world, machine, 'stage2')
      const { status, location } = await ask('filesystem', capability, headers, method)
      t.strictSame([status === 307, location], [false, undefined], name)
      t.notOk((await world.kinds()).includes('download-redirected'), name)
    }
  })

  await t.test('iPXE never is: its client trusts only our root', async (t) => {
    const { world, machine, ask } = await open(t, openWorld)
    const { capability } = await boot(world, machine, 'handover')
    for (const role of ['kernel', 'initramfs'])
      t.equal((await ask(role, capability)).location, undefined, role)
  })

  await t.test('without the right capability it is refused like everything else', async (t) => {
    const { world, machine, ask } = await open(t, openWorld)
    const { capability } = await boot(world, machine, 'stage2')
    for (const wrong of ['', 'A'.repeat(44), `${capability.slice(0, -1)}_`]) {
      t.match(await ask('filesystem', wrong), { status: 403, location: undefined, body: 'refused\n' })
    }
    await askStage(world, machine, 'stage3', (await boot(world, machine, 'stage2')).stage3)
    t.match(
      await ask('filesystem', capability),
      { status: 403, location: undefined },
      'nor when its stage is over',
    )
  })

  await t.test(
    'an agent is sent to the storage for the stage-3 image, which is counted and recorded once',
    async (t) => {
      const { world, machine, ask, lines } = await open(t, openWorld)
      const { capability, session } = await boot(world, machine, 'stage2')
      for (const [role, digit] of [
        ['kernel', 1],
        ['initramfs', 2],
        ['filesystem', 3],
      ] as const) {
        const digest = 'c'.repeat(63) + digit
        const { status, location, cached, body } = await ask(role, capability)
        t.strictSame([status, cached, body], [307, 'no-store', ''])
        t.match(location, `${origin}/images/${digest}?`)
      }
      const rest = await ask('filesystem', capability, { range: 'bytes=1000-' })
      t.equal(rest.status, 307, 'going on asks again')

      const stages = await listStages(world.context.storage.db, session)
      const bytes = stages.find(({ stage }) => stage === 'stage2')?.bytes
      t.equal(Number(bytes), 1001 + 1002 + 1003, 'each once')
      const events = await world.events({ kind: 'download-redirected' })
      t.match(
        events.map(({ node, session: of, source, detail }) => [node, of, source, detail]),
        ['kernel', 'initramfs', 'filesystem'].map((role) => [
          'node1',
          session,
          '127.0.0.1',
          { role, to: origin },
        ]),
      )
      t.notMatch(lines.join() + (await world.dump()), /a-secret/, 'the URL is a secret, and in no log')
    },
  )

  await t.test('where no URL can be signed, the server sends the bytes itself', async (t) => {
    const failing = { ...redirects, urlOf: async () => Promise.reject(new Error('no credentials')) }
    const { world, machine, ask, lines } = await open(t, openWorld, { store: failing })
    const { capability } = await boot(world, machine, 'stage2')
    t.equal((await ask('filesystem', capability)).location, undefined)
    t.match(lines.join(), /download not redirected: sent from here/)
  })

  await t.test('both handovers name the one origin that agents may be sent to, and its CA', async (t) => {
    const downloadsOf = async (wish: Wish) => {
      const { world, machine } = await open(t, openWorld, wish)
      const { handoverToken } = await askStage1(world, machine)
      const { document, stage2 } = await askHandover(world, machine, handoverToken)
      const second = (await askStage(world, machine, 'stage2', stage2)).document as {
        handover: { downloads?: unknown }
      }
      return [document.downloads, second.handover.downloads]
    }
    t.strictSame(await downloadsOf({}), [
      { origin, ca },
      { origin, ca },
    ])
    const open443 = { ...redirects, ca: undefined }
    t.strictSame(await downloadsOf({ store: open443 }), [{ origin }, { origin }])
    t.strictSame(await downloadsOf({ profile: {} }), [undefined, undefined])
    t.strictSame(await downloadsOf({ store: undefined }), [undefined, undefined])
  })
})
