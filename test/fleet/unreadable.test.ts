import t from 'tap'
import type { BootContext } from '../../src/boot/context.ts'
import { settingsSealer } from '../../src/boot/settings-sealer.ts'
import { showExtension, showExtensions } from '../../src/fleet/extension-view.ts'
import { applyExtension, removeExtension } from '../../src/fleet/extensions.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import { listProfiles } from '../../src/fleet/profiles.ts'
import { showWebhook, showWebhooks } from '../../src/fleet/webhook-view.ts'
import {
  createWebhook,
  disableWebhook,
  enableWebhook,
  removeWebhook,
  rotateWebhookSecret,
  setWebhook,
} from '../../src/fleet/webhooks.ts'
import { targetOf } from '../../src/webhooks/deliver.ts'
import { clientPair } from '../helpers/keys.ts'
import { errorOf, root } from '../helpers/operators.ts'
import { forEachDatabase, servedTemplates, type World } from '../helpers/world.ts'

/** The same server after its settings key was lost, and `pawl init` made another. */
const withAnotherKey = ({ context }: World): BootContext => ({
  ...context,
  sealer: settingsSealer(Buffer.alloc(32, 9)),
})

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'an extension whose key was lost is shown as unreadable, applied anew and removed',
    async (t) => {
      const world = await openWorld()
      const { certificate: clientCertificate, key: clientKey } = await clientPair()
      const settings = { url: 'https://tokens.example.com/v2?key=hunter2', clientCertificate, clientKey }
      for (const operation of ['a', 'b', 'c']) await applyExtension(world.context, root, operation, settings)
      const context = withAnotherKey(world)
      t.match(await showExtensions(world.context), [{ unreadable: false }, { unreadable: false }, {}])
      t.match(await showExtensions(context), [
        { operation: 'a', url: '***', unreadable: true, clientKey: '***' },
        { operation: 'b', unreadable: true },
        { operation: 'c', unreadable: true },
      ])
      for (const kept of [
        { ...settings, url: '***' },
        { ...settings, clientKey: '***' },
      ])
        t.match(await errorOf(applyExtension(context, root, 'a', kept)), {
          code: 'key-unreadable',
          hint: /give its value anew/,
        })
      const applied = await applyExtension(context, root, 'a', settings)
      t.match(applied, { revision: 2, unreadable: false, url: 'https://tokens.example.com/v2?key=***' })
      t.match(await showExtension(context, 'a'), { unreadable: false, clientKey: '***' })
      t.match(await applyExtension(context, root, 'b', { url: 'https://tokens.example.com/' }), {
        revision: 2,
        unreadable: false,
      })
      await removeExtension(context, root, 'c')
      t.same(
        (await showExtensions(context)).map(({ operation }) => operation),
        ['a', 'b'],
      )
      const removed = (await world.events({ kind: 'extension-removed' }))[0]
      t.match(removed?.detail, { operation: 'c', before: { url: '***' }, after: null })
      t.notMatch(JSON.stringify(await world.events()), 'hunter2')
    },
  )

  await t.test('a URL with *** in it is the stored one as it is shown, or refused', async (t) => {
    const { context } = await openWorld()
    const url = 'https://tokens.example.com/v2?key=hunter2'
    for (const hidden of ['https://tokens.example.com/v2?key=***', '***']) {
      t.match(await errorOf(applyExtension(context, root, 'a', { url: hidden })), {
        code: 'invalid',
        message: /has "\*\*\*" in it/,
      })
    }
    await applyExtension(context, root, 'a', { url })
    const kept = { url: 'https://tokens.example.com/v2?key=***', timeoutSeconds: 5 }
    t.match(await applyExtension(context, root, 'a', kept), { revision: 2, timeoutSeconds: 5 })
    t.match(
      await errorOf(applyExtension(context, root, 'a', { url: 'https://other.example.com/?key=***' })),
      {
        code: 'invalid',
      },
    )
  })

  await t.test(
    'a webhook whose key was lost: shown, switched, mended in two steps, and removed',
    async (t) => {
      const world = await openWorld()
      const made = { url: 'https://hooks.example.com/pawl?token=hunter2', kinds: ['refused'] }
      for (const name of ['chat', 'other']) await createWebhook(world.context, root, { ...made, name })
      t.match(await showWebhooks(world.context), [{ unreadable: false }, { unreadable: false }])
      const context = withAnotherKey(world)
      t.match(await showWebhooks(context), [
        { name: 'chat', url: '***', unreadable: true },
        { unreadable: true },
      ])
      t.match(await disableWebhook(context, root, 'chat'), { enabled: false, unreadable: true })
      t.match(await enableWebhook(context, root, 'chat'), { enabled: true })
      t.match(await setWebhook(context, root, 'chat', { kinds: ['node-*'] }), { kinds: ['node-*'] })
      t.match(await setWebhook(context, root, 'chat', { url: made.url }), {
        url: 'https://hooks.example.com/pawl?token=***',
        unreadable: true,
      })
      const { secret, ...rotated } = await rotateWebhookSecret(context, root, 'chat')
      t.match(rotated, { unreadable: false, previousSecretUntil: null })
      const row = await context.storage.db
        .selectFrom('webhooks')
        .selectAll()
        .where('name', '=', 'chat')
        .executeTakeFirstOrThrow()
      t.match(
        targetOf(context, row),
        { secrets: [secret] },
        'the lost secret signs nothing, and hinders nothing',
      )
      await removeWebhook(context, root, 'other')
      t.equal((await showWebhook(context, 'chat')).unreadable, false)
      t.equal((await showWebhooks(context)).length, 1)
    },
  )

  await t.test('a profile whose key was lost is listed, and goes by fleet files', async (t) => {
    const world = await openWorld({ templates: servedTemplates() })
    const join = {
      kind: 'kubeadm',
      settings: {
        endpoint: '192.0.2.1:6443',
        token: 'abcdef.0123456789abcdef',
        caCertHash: `sha256:${'0'.repeat(64)}`,
      },
    }
    const files = {
      ...{ set: 'default', nodes: [], channels: [] },
      profiles: [{ name: 'worker', boot: { stage2: 'small@1', stage3: 'full@1', join } }],
    }
    await applyFleet(world.context, root, files)
    const context = withAnotherKey(world)
    t.match(await listProfiles(context.storage.db, { limit: 10 }), { items: [{ name: 'worker' }] })
    t.match((await applyFleet(context, root, { ...files, dryRun: true })).changes, [
      { action: 'change', fields: [{ field: 'boot.join.settings.token', secret: true }] },
    ])
    await applyFleet(context, root, { ...files, profiles: [], prune: true })
    t.match(await listProfiles(context.storage.db, { limit: 10 }), { items: [] })
  })
})
