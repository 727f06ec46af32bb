import t from 'tap'
import { serveStage1 } from '../../src/boot/serve-stage1.ts'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { addNode } from '../../src/fleet/nodes.ts'
import { applyProfile, listProfiles, showProfile } from '../../src/fleet/profiles.ts'
import { reinstall } from '../../src/fleet/reinstall.ts'
import { issueSecret } from '../../src/fleet/secrets.ts'
import { publishImage, wholeList } from '../helpers/fleet.ts'
import { askHandover, askStage, machineOf } from '../helpers/machine.ts'
import { ann, errorOf, root } from '../helpers/operators.ts'
import { forEachDatabase, servedTemplates, type World } from '../helpers/world.ts'

const token = 'abcdef.0123456789abcdef'
const otherToken = 'fedcba.fedcba9876543210'
const caCertHash = `sha256:${'a'.repeat(64)}`
const settings = { endpoint: 'k8s.example.test:6443', token, caCertHash }

/** A profile that joins by kubeadm, as a file would say it. */
function cluster(
  more: Record<string, unknown> = {},
  joinSettings: Record<string, unknown> = settings,
): Record<string, unknown> {
  const join = { kind: 'kubeadm', settings: joinSettings }
  return { name: 'cluster', boot: { stage2: 'small@1', stage3: 'full@1', join }, ...more }
}

await forEachDatabase(t, async (t, openWorld) => {
  const open = (): Promise<World> => openWorld({ templates: servedTemplates() })

  await t.test('refuses what no boot could be served from, and stores nothing', async (t) => {
    const world = await open()
    const { context } = world
    await publishImage(world, 'small@1', 'a', false)
    const long = 'a'.repeat(1000)
    const table: [string, unknown, string, RegExp][] = [
      ['no object', 'x', 'invalid', /profile/],
      ['a null', null, 'invalid', /profile/],
      ['an unknown field', cluster({ colour: 'red' }), 'invalid', /unknown field "colour"/],
      [
        'another name than the path',
        cluster({ name: 'other' }),
        'invalid',
        /named "other", and was sent as "cluster"/,
      ],
      [
        'a bad image',
        { name: 'cluster', boot: { stage2: 'x', stage3: 'full@1' } },
        'invalid',
        /name@version/,
      ],
      [
        'credentials for an address alone',
        cluster({ evidence: ['address'] }),
        'invalid',
        /whoever has the node's address/,
      ],
      ['a bad token', cluster({}, { ...settings, token: 'short' }), 'invalid', /token/],
      [
        '*** where nothing is stored',
        cluster({}, { ...settings, token: '***' }),
        'invalid',
        /boot\.join\.settings\.token is "\*\*\*", and nothing is stored there/,
      ],
      [
        'a setting no script can carry',
        {
          ...cluster(),
          boot: { stage2: 'small@1', stage3: 'full@1', join: { kind: 'none', settings: { a: '$(reboot)' } } },
        },
        'render-failed',
        /./,
      ],
      ['a kernel argument iPXE would expand', cluster({ kernelArguments: 'a=${b}' }), 'invalid', /expands/],
      [
        'a reserved kernel argument',
        cluster({ kernelArguments: 'init=/bin/sh' }),
        'forbidden',
        /"init=\/bin\/sh" is reserved: it needs the role admin/,
      ],
    ]
    for (const [what, document, code, message] of table) {
      const error = await errorOf(applyProfile(context, ann, 'cluster', document))
      t.match(error, { code, message }, what)
      t.notMatch(JSON.stringify(error), token, 'and no message holds the token')
    }
    await context.storage.db
      .updateTable('images')
      .set((e) => ({
        manifest: e.fn('replace', ['manifest', e.val('console=ttyS0'), e.val(`a=${long} b=${long}`)]),
      }))
      .execute()
    const tooLong = await errorOf(
      applyProfile(context, ann, 'cluster', cluster({ kernelArguments: `c=${'a'.repeat(60)}` })),
    )
    t.match(tooLong, { code: 'invalid', message: /the kernel command line has 20\d\d bytes, more than 2047/ })
    t.match(
      (await applyProfile(context, root, 'cluster', cluster({ kernelArguments: 'init=/x' }))).revision,
      1,
    )
    t.equal((await listProfiles(context.storage.db, wholeList)).items.length, 1)
    t.same(await world.kinds(), ['profile-applied'])
  })

  await t.test('warns of images that are not published yet', async (t) => {
    const world = await open()
    await publishImage(world, 'small@1', 'a', false)
    const { warnings } = await applyProfile(world.context, ann, 'cluster', cluster())
    t.same(warnings, ['image full@1 is not published yet: boots that need it are refused until it is'])
    await publishImage(world, 'full@1', 'b')
    t.same((await applyProfile(world.context, ann, 'cluster', cluster())).warnings, [])
  })

  await t.test(
    'secret settings are sealed at rest, shown as ***, and kept when *** comes back',
    async (t) => {
      const world = await open()
      const { context } = world
      await applyProfile(context, ann, 'cluster', cluster())
      const shown = await showProfile(context.storage.db, 'cluster')
      t.match(shown, {
        revision: 1,
        profile: { boot: { join: { settings: { ...settings, token: '***' } } } },
      })
      t.match((await listProfiles(context.storage.db, wholeList)).items[0], shown)
      t.notMatch(await world.dump(), token)
      t.match(await world.dump(), 'sealed:')
      const again = await applyProfile(context, ann, 'cluster', shown.profile)
      t.equal(again.revision, 1, 'what was shown, sent back, changes nothing')
      const edited = { ...settings, token: '***', endpoint: 'k8s2.example.test:6443' }
      t.equal((await applyProfile(context, ann, 'cluster', cluster({}, edited))).revision, 2)
      t.equal(
        (await applyProfile(context, ann, 'cluster', cluster({}, { ...edited, token: otherToken }))).revision,
        3,
      )
      const events = await world.events({ kind: 'profile-applied' })
      t.same(
        events.map((event) => event.detail.secretsChanged),
        [['boot.join.settings.token'], [], ['boot.join.settings.token']],
      )
      t.match(events[1]?.detail, {
        before: { boot: { join: { settings: { token: '***' } } } },
        after: { boot: { join: { settings: edited } } },
      })
      t.notMatch(await world.dump(), new RegExp(`${token}|${otherToken}`))
    },
  )

  await t.test(
    '*** keeps nothing of another sequence, another kind of join, or a setting that is not secret',
    async (t) => {
      const world = await open()
      const { context } = world
      await applyProfile(context, ann, 'cluster', cluster())
      const join = { kind: 'kubeadm', settings: { ...settings, token: '***' } }
      const reinstalling = cluster({ reinstall: { stage2: 'small@1', stage3: 'full@1', join } })
      t.match(await errorOf(applyProfile(context, ann, 'cluster', reinstalling)), {
        message: /reinstall\.join\.settings\.token/,
      })
      const endpoint = cluster({}, { ...settings, endpoint: '***' })
      t.match(await errorOf(applyProfile(context, ann, 'cluster', endpoint)), {
        code: 'invalid',
        message: /endpoint/,
      })
      const none = {
        name: 'cluster',
        boot: { stage2: 'small@1', stage3: 'full@1', join: { kind: 'none', settings: { token: 'stars' } } },
      }
      t.equal((await applyProfile(context, ann, 'cluster', none)).revision, 2)
      t.match(
        await errorOf(applyProfile(context, ann, 'cluster', cluster({}, { ...settings, token: '***' }))),
        { code: 'invalid' },
      )
    },
  )

  await t.test('a profile whose key was lost can be applied again, but not kept by ***', async (t) => {
    const world = await open()
    await applyProfile(world.context, ann, 'cluster', cluster())
    const context = { ...world.context, sealer: settingsSealer(Buffer.alloc(32, 9)) }
    const kept = applyProfile(context, ann, 'cluster', cluster({}, { ...settings, token: '***' }))
    t.match(await errorOf(kept), { code: 'key-unreadable', hint: /give its value anew/ })
    t.equal((await applyProfile(context, ann, 'cluster', cluster())).revision, 2)
  })

  await t.test('a node joins with the token that was applied', async (t) => {
    const world = await open()
    const { context } = world
    await publishImage(world, 'small@1', 'a', false)
    await publishImage(world, 'full@1', 'b')
    await applyProfile(context, ann, 'cluster', cluster({ reinstall: cluster().boot }))
    await addNode(context, ann, { name: 'node1', profile: 'cluster' })
    const { secret } = await issueSecret(context, ann, 'node1')
    await reinstall(context, ann, { nodes: ['node1'] })
    const machine = machineOf(secret)
    const request = { host: 'node1', source: machine.source, request: 'stage1', fields: machine.fields }
    const answer = await serveStage1(context, { ...request, format: 'ipxe' })
    const k = /k=([A-Za-z0-9_-]{44})/.exec(answer?.body ?? '')?.[1]
    const { stage2 } = await askHandover(world, machine, k)
    const stage3 = await askStage(world, machine, 'stage2', stage2)
    const join = await askStage(world, machine, 'stage3', stage3.token)
    const { document } = await askStage(world, machine, 'join', join.token)
    t.match(document.script, token)
  })

  await t.test('a profile that is not there is named, with those that are', async (t) => {
    const { context } = await open()
    t.match(await errorOf(showProfile(context.storage.db, 'x')), {
      code: 'not-found',
      hint: /there are none yet/,
    })
    await applyProfile(context, ann, 'a', { name: 'a', boot: 'local' })
    t.match(await errorOf(showProfile(context.storage.db, 'x')), { code: 'not-found', hint: 'there are: a' })
  })
})
