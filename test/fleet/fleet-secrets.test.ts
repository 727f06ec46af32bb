import t from 'tap'
import { overlayKinds } from '../../src/domain/join/overlay.ts'
import { joinKinds } from '../../src/domain/join.ts'
import type { By } from '../../src/fleet/change.ts'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import { exportFleet } from '../../src/fleet/fleet-export.ts'
import type { FleetRequest } from '../../src/fleet/fleet-plan.ts'
import { applyProfile, showProfile } from '../../src/fleet/profiles.ts'
import { storeDemoFleet } from '../helpers/fleet.ts'
import { joiningOf } from '../helpers/joining.ts'
import { startKubernetesApi } from '../helpers/kubernetes-api.ts'
import { ann, errorOf } from '../helpers/operators.ts'
import { forEachDatabase } from '../helpers/world.ts'

const by: By = { ...ann, role: 'operator' }
const hash = 'a'.repeat(64)
const images = { stage2: 'small@1', stage3: 'full@1' }

/** A document whose secret field holds `value`, with what that field must look like around `mark`. */
interface Secret {
  readonly value: (mark: string) => string
  /** What no answer may hold, where it is not the mark as it is. */
  readonly needle?: (mark: string) => string
  readonly document: (value: string) => Record<string, unknown>
}

type Row = readonly [field: string, secret: Secret]

const pem = (what: string, text: string): string =>
  `-----BEGIN ${what}-----\n${text}\n-----END ${what}-----\n`
const base64 = (text: string): string => Buffer.from(text.padEnd(32, '.')).toString('base64')
const join = (kind: string, settings: object, overlay?: object): Record<string, unknown> => ({
  boot: { ...images, join: { kind, settings, ...(overlay === undefined ? {} : { overlay }) } },
})
const inJoin = (field: string, value: Secret['value'], settings: object = {}): Row => {
  const [kind = '', setting = ''] = field.split('.')
  return [field, { value, document: (text) => join(kind, { ...settings, [setting]: text }) }]
}
const inOverlay = (field: string, value: Secret['value'], more: object): Row => {
  const [kind = '', setting = ''] = field.split('.')
  const document = (text: string): Record<string, unknown> =>
    join('nomad', { servers: ['n1'] }, { kind, ...more, [setting]: text })
  return [field, { value, document }]
}
const inHook = (name: 'leave' | 'reboot', setting: string, hook: object, value: Secret): Row => [
  `${name}.${setting}`,
  {
    ...value,
    document: (text) => ({
      boot: 'local',
      reinstall: images,
      leave: { kind: 'webhook', url: 'https://x.example.test/', secret: `whsec_${base64('other')}` },
      [name]: { ...hook, [setting]: text },
    }),
  },
]

/** Every secret that a profile can hold, by the kind it is of. */
const rows = (kubeconfig: (token: string) => string): readonly Row[] => {
  const webhook = { kind: 'webhook', url: 'https://hooks.example.test/leave' }
  const signing: Secret = {
    value: (mark) => `whsec_${base64(mark)}`,
    needle: base64,
    document: () => ({}),
  }
  const agent = { server: 'https://192.0.2.1:6443' }
  const nebula = { ca: pem('NEBULA CERTIFICATE', 'Y2E='), certificate: pem('NEBULA CERTIFICATE', 'Y2E=') }
  const lighthouses = [{ address: '192.168.100.1', endpoints: ['l.example.com:4242'] }]
  return [
    inJoin('script.secret', (mark) => mark, { script: '#!/bin/sh\n' }),
    inJoin('kubeadm.token', (mark) => `abcdef.${mark.padEnd(16, '0')}`, {
      endpoint: '192.0.2.1:6443',
      caCertHash: `sha256:${hash}`,
    }),
    inJoin('kubeadm.kubeconfig', kubeconfig, { endpoint: '192.0.2.1:6443' }),
    inJoin('k3s.token', (mark) => `K10${hash}::${mark}`, agent),
    inJoin('rke2.token', (mark) => `K10${hash}::${mark}`, agent),
    inJoin('nomad.introToken', (mark) => `a.${mark}.b`, { servers: ['n1'] }),
    inJoin('cloud-init.secretUserData', (mark) => `#cloud-config\npassword: ${mark}\n`),
    inJoin('ignition.secretConfig', (mark) =>
      JSON.stringify({ ignition: { version: '3.4.0' }, passwd: { users: [{ name: mark }] } }),
    ),
    inOverlay('tailscale.authKey', (mark) => `tskey-${mark}`, {}),
    inOverlay('nebula.key', (mark) => pem('NEBULA X25519 PRIVATE KEY', mark), { ...nebula, lighthouses }),
    inHook('leave', 'kubeconfig', { kind: 'kubernetes' }, { value: kubeconfig, document: () => ({}) }),
    inHook('leave', 'secret', webhook, signing),
    inHook('reboot', 'secret', webhook, signing),
  ]
}

t.test('the table has every secret there is', async (t) => {
  const all = Object.entries({ ...joinKinds, ...overlayKinds }).flatMap(([kind, { secretSettings }]) =>
    secretSettings.map((name) => `${kind}.${name}`),
  )
  t.same(
    rows(() => '')
      .map(([field]) => field)
      .sort(),
    [...all, 'leave.kubeconfig', 'leave.secret', 'reboot.secret'].sort(),
  )
})

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('no plan, diff, event, export or error holds a secret of a profile', async (t) => {
    const api = await startKubernetesApi(t)
    const world = await openWorld({ joining: joiningOf() })
    await storeDemoFleet(world)
    const { context } = world
    for (const [index, [field, secret]] of rows((token) => api.kubeconfig({ token })).entries()) {
      const name = `p${index}`
      const marks = ['before', 'after1', 'wrong1'].map((word) => `${word}x${index}x`)
      const [old = '', now = '', wrong = ''] = marks
      const profile = (value: string, more: object = {}): { name: string } & Record<string, unknown> => ({
        name,
        ...secret.document(value),
        ...more,
      })
      const files = (value: string, more: object = {}): FleetRequest => ({
        ...{ set: 'default', nodes: [], channels: [] },
        profiles: [profile(value, more)],
      })
      const said: unknown[] = []
      const added = await applyFleet(context, by, { ...files(secret.value(old)), dryRun: true })
      t.same(added.faults, [], `${field} is taken`)
      said.push(added, await applyFleet(context, by, files(secret.value(old))))
      const changed = await applyFleet(context, by, { ...files(secret.value(now)), dryRun: true })
      t.match(
        changed.changes.map(({ fields }) => fields),
        [[{ before: null, after: null, secret: true }]],
        `${field} is told to be another, and no more`,
      )
      const another = { ...files(''), profiles: [{ name, boot: 'local' }] }
      said.push(changed, await applyFleet(context, by, { ...another, dryRun: true }))
      said.push(await applyFleet(context, by, { ...files('***'), dryRun: true }))
      for (const value of [secret.value(wrong), `${secret.value(wrong)}\u0007`, `{{ "${wrong}"`, wrong])
        for (const more of [{ kernelArguments: 'init=/bin/sh' }, { armed: 'yes' }, {}]) {
          said.push(await applyFleet(context, by, { ...files(value, more), dryRun: true }))
          if (Object.keys(more).length > 0)
            said.push(String(await errorOf(applyProfile(context, by, name, profile(value, more)))))
        }
      said.push(await applyFleet(context, by, files(secret.value(now))))
      said.push(await showProfile(context.storage.db, name))
      said.push(await exportFleet(context, undefined))
      said.push(await world.events(), await world.dump())
      const text = said.map((one) => (typeof one === 'string' ? one : JSON.stringify(one))).join('\n')
      for (const mark of marks)
        for (const needle of new Set([mark, secret.needle?.(mark) ?? mark]))
          t.notOk(text.includes(needle), `${field}: ${needle} is nowhere`)
    }
  })
  await t.test("a hook's URL, which viewers see, has no place for a credential", async (t) => {
    const { context } = await openWorld()
    const table: readonly (readonly [string, string])[] = [
      ['https://u:hunter2@x.example.test/', 'holds a user or password'],
      ['https://x.example.test/leave?key=hunter2', 'has a query'],
      ['https://x.example.test/?', 'has a query'],
      ['https://x.example.test/#hunter2', 'has a fragment, which is never sent'],
    ]
    for (const [url, what] of table)
      for (const name of ['leave', 'reboot']) {
        const hook = { kind: 'webhook', url: 'https://x.example.test/', secret: `whsec_${base64('')}` }
        const hooks = { leave: hook, [name]: { ...hook, url } }
        const error = await errorOf(
          applyProfile(context, by, 'p', { name: 'p', boot: 'local', reinstall: images, ...hooks }),
        )
        t.match(error, { code: 'invalid', message: `the ${name} hook's URL ${what}` })
        t.notMatch(`${error?.message} ${error?.hint}`, /hunter2|path or query/)
      }
  })
})
