import t from 'tap'
import { overlayKinds } from '../../src/domain/join/overlay.ts'
import { type Join, joinFault, joinKinds } from '../../src/domain/join.ts'

const pem = (what: string): string => `-----BEGIN ${what}-----\nY2E=\n-----END ${what}-----\n`
const peers = [{ publicKey: `${'A'.repeat(42)}E=`, allowedIps: ['10.0.0.0/8'] }]
const certificate = pem('NEBULA CERTIFICATE')
const lighthouses = [{ address: '192.168.100.1', endpoints: ['l.example.com:4242'] }]
const nebula = {
  kind: 'nebula',
  ca: certificate,
  certificate,
  key: pem('NEBULA X25519 PRIVATE KEY'),
  lighthouses,
}

/** An overlay of each kind without a fault, and those with one: where it is told, and how. */
const good: Readonly<Record<string, object>> = {
  wireguard: { kind: 'wireguard', addresses: ['10.0.0.2/32'], peers },
  tailscale: { kind: 'tailscale', authKey: 'tskey-auth-x' },
  zerotier: { kind: 'zerotier', networkId: '0123456789abcdef' },
  nebula,
}
const faulty: readonly (readonly [object, string, RegExp])[] = [
  [{ kind: 'wireguard', peers }, 'overlay.addresses', /or addressLabel is needed: one of the two/],
  [{ ...good.wireguard, addressLabel: 'wg' }, 'overlay.addresses', /one of the two/],
  [{ ...nebula, ca: 'CA' }, 'overlay.ca', /NEBULA CERTIFICATE/],
  [{ ...nebula, certificate: pem('CERTIFICATE') }, 'overlay.certificate', /NEBULA CERTIFICATE/],
  [{ ...nebula, key: certificate }, 'overlay.key', /PRIVATE KEY/],
]

/** Joins by their kind, and the fault of their own settings. */
const joins: readonly (readonly [string, Pick<Join, 'kind' | 'settings'>, string | undefined])[] = [
  ['none', { kind: 'none' }, undefined],
  [
    'an answer for kubeadm',
    { kind: 'extension', settings: { operation: 'a', answer: 'kubeadm' } },
    undefined,
  ],
  ['a script', { kind: 'script', settings: { script: '#!/bin/sh\ntrue\n' } }, undefined],
  ['a script of no interpreter', { kind: 'script', settings: { script: 'true\n' } }, 'settings.script'],
] as never

t.test('there is an overlay of each kind', async (t) => {
  t.same(Object.keys(good).sort(), Object.keys(overlayKinds).sort())
  for (const [, { kind }] of joins) t.ok(kind in joinKinds)
})

t.test('every overlay, good or faulty, before each join: the fault of the join is told first', async (t) => {
  for (const [what, join, own] of joins) {
    t.equal(joinFault(join as Join)?.at, own, what)
    for (const [kind, overlay] of Object.entries(good))
      t.equal(joinFault({ ...join, overlay } as Join)?.at, own, `${what} behind ${kind}`)
    for (const [overlay, at, message] of faulty) {
      const found = joinFault({ ...join, overlay } as Join)
      t.equal(found?.at, own ?? at, `${what}: ${at}`)
      if (own === undefined) t.match(found?.message, message)
    }
  }
})

t.test('before a script that an extension answers stands no overlay, whatever it is', async (t) => {
  const join = { kind: 'extension', settings: { operation: 'a', answer: 'script' } }
  t.equal(joinFault(join as Join), undefined)
  for (const overlay of [...Object.values(good), ...faulty.map(([overlay]) => overlay)])
    t.same(joinFault({ ...join, overlay } as Join), {
      at: 'overlay',
      message: 'cannot stand before a script that an extension answers',
    })
})
