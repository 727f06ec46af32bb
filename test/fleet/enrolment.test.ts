import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { enrol } from '../../src/boot/enrol.ts'
import { approveMachine, listPending, rejectMachine } from '../../src/fleet/enrolment.ts'
import { listImages, publishImage, showImage } from '../../src/fleet/images.ts'
import { addNode } from '../../src/fleet/nodes.ts'
import { createOperator } from '../../src/fleet/operators.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { type ArtifactStore, openArtifactStore } from '../../src/images/artifacts.ts'
import { wholeList } from '../helpers/fleet.ts'
import { ann, errorOf, root } from '../helpers/operators.ts'
import { smallFile, smallKernel, smallManifest } from '../helpers/small-image.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'

const maxBytes = 1 << 20

async function openStore(t: Test): Promise<ArtifactStore> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-store-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return openArtifactStore(folder)
}

/** Lets an unknown machine ask; returns its code. */
async function ask(world: World, fields: Record<string, string>, source = '192.0.2.77'): Promise<string> {
  const body = await enrol(world.context, { host: undefined, source, request: 'enrol', fields })
  return JSON.parse(body.slice(body.indexOf('{'))).code
}

const machine = { uuid: '11111111-2222-3333-4444-555555555555', mac: '52-54-00-12-34-56', serial: 'SN1' }

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'refuses codes that nobody waits under, and names that are taken, and keeps the machine waiting',
    async (t) => {
      const world = await openWorld()
      const { context, clock } = world
      await applyProfile(context, ann, 'web', { name: 'web', boot: 'local' })
      await addNode(context, ann, { name: 'taken', macs: ['52:54:00:99:99:99'] })
      const code = await ask(world, machine)
      const to = { name: 'n1', profile: 'web' }
      t.match(await errorOf(approveMachine(context, ann, 'aaaaa-bbbbb', to)), {
        code: 'not-found',
        hint: /an hour/,
      })
      t.match(await errorOf(approveMachine(context, ann, code, { ...to, name: 'taken' })), { code: 'exists' })
      t.match(await errorOf(approveMachine(context, ann, code, { ...to, name: 'N 1' })), { code: 'invalid' })
      t.match(await errorOf(approveMachine(context, ann, code, { ...to, profile: 'x' })), {
        code: 'not-found',
        hint: 'there are: web',
      })
      const double = await ask(world, { mac: '52-54-00-99-99-99' })
      t.match(await errorOf(approveMachine(context, ann, double, to)), { code: 'exists', message: /"taken"/ })
      t.equal((await listPending(context)).length, 2)
      clock.advance(3601)
      t.same(await listPending(context), [])
      t.match(await errorOf(approveMachine(context, ann, code, to)), { code: 'not-found' })
      t.match(await errorOf(rejectMachine(context, ann, code)), { code: 'not-found' })
    },
  )

  await t.test(
    'an approved machine is a node with its facts; its address counts where the profile asks for it',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      await applyProfile(context, ann, 'web', { name: 'web', boot: 'local' })
      await applyProfile(context, ann, 'place', { name: 'place', boot: 'local', evidence: ['address'] })
      const code = await ask(world, machine)
      t.match(await listPending(context), [{ code, facts: { serial: 'SN1' }, source: '192.0.2.77' }])
      const typed = code.toUpperCase().replace('-', ' ')
      const [first, second] = await Promise.allSettled([
        approveMachine(context, ann, typed, { name: 'n1', profile: 'web' }),
        approveMachine(context, ann, code, { name: 'n2', profile: 'web' }),
      ])
      t.same(
        [first.status, second.status].sort(),
        ['fulfilled', 'rejected'],
        'one of two who approve at once',
      )
      const { node, warnings } = [first, second].filter((r) => r.status === 'fulfilled')[0]!.value
      t.match(node, {
        state: 'registered',
        profile: 'web',
        macs: ['52:54:00:12:34:56'],
        uuid: machine.uuid,
        serial: 'SN1',
        addresses: [],
      })
      t.same(warnings, [
        `its profile asks for the enrolment secret: issue it with pawl node secret ${node.name}`,
      ])
      const unset = {
        mac: '52-54-00-12-34-57',
        serial: 'To Be Filled By O.E.M.',
        uuid: '00000000-0000-0000-0000-000000000000',
      }
      const other = await approveMachine(context, ann, await ask(world, unset), {
        name: 'n3',
        profile: 'place',
      })
      t.match(other.node, { addresses: ['192.0.2.77'], serial: null, uuid: null })
      t.match(other.warnings, [/address 192.0.2.77 was registered/])
      t.match((await world.events({ kind: 'machine-approved' })).at(-1), {
        node: 'n3',
        actor: 'operator:ann',
        detail: { facts: { serial: unset.serial } },
      })
    },
  )

  await t.test(
    'a rejected machine is listed no more, however often it asks, unless an operator thinks again',
    async (t) => {
      const world = await openWorld()
      const { context } = world
      await applyProfile(context, ann, 'web', { name: 'web', boot: 'local' })
      const code = await ask(world, machine)
      await rejectMachine(context, ann, code)
      t.equal(await ask(world, machine), code)
      t.same(await listPending(context), [])
      t.match(await errorOf(rejectMachine(context, ann, code)), { code: 'not-found' })
      t.match(await world.events({ kind: 'machine-rejected' }), [
        { node: null, detail: { code, machine: '192.0.2.77' } },
      ])
      t.equal((await approveMachine(context, ann, code, { name: 'n1', profile: 'web' })).node.name, 'n1')
    },
  )

  await t.test('an image is visible once its bytes are, and never changes', async (t) => {
    const world = await openWorld()
    const { context } = world
    const store = await openStore(t)
    const [kernel, initramfs] = [smallKernel(), smallFile('initramfs')]
    const manifest = smallManifest(kernel, initramfs)
    t.match(await errorOf(publishImage(context, ann, store, { manifest: { ...manifest, colour: 'red' } })), {
      code: 'invalid',
      message: /colour/,
    })
    t.match(await errorOf(publishImage(context, ann, store, { manifest })), {
      code: 'conflict',
      hint: /send every artifact/,
    })
    for (const { digest, bytes } of [kernel, initramfs])
      await store.put(digest, Readable.from([bytes]), { maxBytes })
    const reserved = { ...manifest, kernelArguments: 'init=/bin/sh' }
    t.match(await errorOf(publishImage(context, ann, store, { manifest: reserved })), {
      code: 'forbidden',
      message: /role admin/,
    })
    t.same((await listImages(context.storage.db, wholeList)).items, [])
    const racing = await Promise.all([1, 2, 3].map(() => publishImage(context, ann, store, { manifest })))
    t.equal(racing.filter((published) => published.created).length, 1)
    t.match(await publishImage(context, ann, store, { manifest }), {
      ref: 'small@1',
      digest: racing[0]?.digest,
      created: false,
    })
    const other = { ...manifest, kernelArguments: 'loud' }
    t.match(await errorOf(publishImage(context, ann, store, { manifest: other })), {
      code: 'exists',
      hint: /another version/,
    })
    await publishImage(context, root, store, { manifest: { ...reserved, version: '2' } })
    t.match(await showImage(context.storage.db, 'small', '1'), {
      ref: 'small@1',
      manifest,
      createdBy: 'operator:ann',
    })
    t.match(await errorOf(showImage(context.storage.db, 'small', '3')), {
      code: 'not-found',
      hint: /pawl image list/,
    })
    t.same(await world.kinds(), ['image-published', 'image-published'])
  })

  await t.test('an operator token is shown once and stored as a hash', async (t) => {
    const world = await openWorld()
    const { context } = world
    const soon = new Date('2026-11-22T06:00:00.000Z')
    const token = await createOperator(context, { name: 'ann', role: 'operator', expiresAt: soon })
    t.match(token, /^[A-Za-z0-9_-]{44}$/)
    t.notMatch(await world.dump(), token.slice(12))
    t.match(await world.events(), [
      {
        kind: 'operator-created',
        actor: 'server',
        detail: { name: 'ann', role: 'operator', expiresAt: soon.toISOString() },
      },
    ])
    const past = { name: 'ann', role: 'viewer', expiresAt: new Date('2026-11-21T06:00:00.000Z') } as const
    t.match(await errorOf(createOperator(context, past)), { code: 'invalid', message: /which is over/ })
    for (const name of ['', 'Ann', 'a b', 'a\n', 'x'.repeat(64)]) {
      t.match(await errorOf(createOperator(context, { name, role: 'viewer', expiresAt: null })), {
        code: 'invalid',
      })
    }
  })
})
