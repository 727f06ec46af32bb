import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { examineIpxe, maxIpxeBytes, publicFingerprint } from '../../src/ipxe/examine.ts'
import { fetchIpxe } from '../../src/ipxe/fetch.ts'
import { trustOf, trustRoot } from '../../src/ipxe/trust.ts'
import { efiIpxe, kpxeIpxe, lkrnIpxe, words2 } from '../helpers/ipxe.ts'

const ours = 'ab'.repeat(32)
const theirs = 'cd'.repeat(32)

t.test('refuses what no firmware would run as iPXE, and says what it is', async (t) => {
  const cut = efiIpxe().subarray(0, 0x90)
  const kernel = Buffer.alloc(0x800)
  kernel.writeUInt16LE(0xaa55, 0x1fe)
  kernel.write('HdrS', 0x202, 'latin1')
  const refused: [Buffer, string][] = [
    [Buffer.alloc(0), 'f is no iPXE: neither an EFI program nor a BIOS one'],
    [Buffer.from('MZ'), 'f is no iPXE: neither an EFI program nor a BIOS one'],
    [Buffer.from('#!/bin/sh\n'), 'f is no iPXE: neither an EFI program nor a BIOS one'],
    [kernel, 'f is no iPXE: neither an EFI program nor a BIOS one'],
    [cut, 'f begins like an EFI program, but has no PE header'],
    [
      Buffer.concat([Buffer.from('MZ'), Buffer.alloc(80, 0xff)]),
      'f begins like an EFI program, but has no PE header',
    ],
    [efiIpxe({ machine: 0x1234 }), 'f is an EFI program for an unknown processor'],
    [efiIpxe({ subsystem: 11 }), 'f is no EFI application'],
    [efiIpxe({ words: ['GRUB'] }), 'f is an EFI application, but not iPXE'],
    [
      Buffer.alloc(maxIpxeBytes + 1),
      `f is ${maxIpxeBytes + 1} bytes, more than iPXE can have (${maxIpxeBytes})`,
    ],
  ]
  for (const [bytes, message] of refused)
    t.throws(() => examineIpxe(bytes, 'f'), { code: 'invalid', message }, message)
})

t.test('tells platform, version and features by the words in a binary', async (t) => {
  t.same(examineIpxe(efiIpxe(), 'f'), {
    platform: 'efi',
    arch: 'x86_64',
    version: '2.0.0+dfsg-5',
    features: ['https', 'ipv6', 'vlan', 'params', 'digests'],
    signed: false,
  })
  const old = efiIpxe({
    machine: 0xaa64,
    words: ['iPXE\0\0\x001.0.0+git-20190125.36a4c85', 'IPv6'],
    signed: true,
  })
  t.same(examineIpxe(old, 'f'), {
    platform: 'efi',
    arch: 'arm64',
    version: '1.0.0+git-20190125.36a4c85',
    features: ['ipv6'],
    signed: true,
  })
  const bios = { platform: 'bios', arch: 'i386', features: null, signed: false }
  t.same(examineIpxe(lkrnIpxe(), 'f'), { ...bios, version: '2.0.0+dfsg-5' })
  t.same(examineIpxe(kpxeIpxe(), 'f'), { ...bios, version: null })
})

t.test('never throws anything but a refusal, whatever bytes it is given', async (t) => {
  const whole = efiIpxe()
  for (let length = 0; length < whole.length; length += 7) {
    try {
      examineIpxe(whole.subarray(0, length), 'f')
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'invalid') throw error
    }
  }
  for (const offset of [0x3c, 0x84, 0x98, 0x98 + 108]) {
    const changed = Buffer.from(whole)
    changed.writeUInt32LE(0xffffffff, offset)
    try {
      examineIpxe(changed, 'f')
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'invalid') throw error
    }
  }
  t.pass('only refusals')
})

t.test('says whom a binary trusts', async (t) => {
  const of = (bytes: Buffer) => trustOf(bytes, examineIpxe(bytes, 'f'), [ours])
  t.same(of(efiIpxe()), { kind: 'public' })
  t.same(of(efiIpxe({ roots: [ours] })), { kind: 'root', fingerprint: ours })
  t.same(of(efiIpxe({ roots: [ours, publicFingerprint] })), { kind: 'unknown' }, 'ours, and others too')
  t.same(of(efiIpxe({ roots: [theirs] })), { kind: 'unknown' }, 'another root cannot be found by its looks')
  t.same(of(efiIpxe({ words: ['iPXE'] })), { kind: 'nobody' }, 'without HTTPS')
  t.same(of(lkrnIpxe()), { kind: 'unknown' }, 'packed')
})

t.test('refuses to change a binary that would not trust our root alone afterwards', async (t) => {
  const refused: [Buffer, string, string][] = [
    [lkrnIpxe(), 'invalid', 'f is a BIOS binary, which is packed: whom it trusts cannot be changed'],
    [efiIpxe({ words: ['iPXE'] }), 'invalid', 'f has no HTTPS: it trusts nobody, and cannot boot from Pawl'],
    [
      efiIpxe({ roots: [] }),
      'invalid',
      "f cannot be changed: iPXE's own root fingerprint does not occur in it, where it must once",
    ],
    [
      efiIpxe({ roots: [publicFingerprint, publicFingerprint] }),
      'invalid',
      "f cannot be changed: iPXE's own root fingerprint occurs 2 times in it, where it must once",
    ],
    [
      efiIpxe({ roots: [ours, publicFingerprint, publicFingerprint] }),
      'invalid',
      "f cannot be changed: iPXE's own root fingerprint occurs 2 times in it, where it must once",
    ],
    [efiIpxe({ signed: true }), 'conflict', 'f is signed for Secure Boot, which any change breaks'],
  ]
  for (const [bytes, code, message] of refused)
    t.throws(() => trustRoot(bytes, 'f', ours), { code, message }, message)
})

t.test('a copy differs in the fingerprint only, and trusts our root and nobody else', async (t) => {
  const bytes = efiIpxe()
  const copy = trustRoot(bytes, 'f', ours)
  t.same([copy.already, copy.brokeSignature], [false, false])
  const at = bytes.indexOf(Buffer.from(publicFingerprint, 'hex'))
  t.equal(copy.bytes.subarray(at, at + 32).toString('hex'), ours)
  t.ok(copy.bytes.subarray(0, at).equals(bytes.subarray(0, at)))
  t.ok(copy.bytes.subarray(at + 32).equals(bytes.subarray(at + 32)))
  t.notOk(copy.bytes.includes(Buffer.from(publicFingerprint, 'hex')))
  t.ok(bytes.includes(Buffer.from(publicFingerprint, 'hex')), 'what it was made of is as it was')
  t.equal(trustRoot(copy.bytes, 'f', ours).already, true)
  t.throws(() => trustRoot(copy.bytes, 'f', theirs), { code: 'invalid' }, 'a copy is not changed again')
  t.equal(
    trustRoot(efiIpxe({ signed: true, words: words2 }), 'f', ours, { breakSignature: true }).brokeSignature,
    true,
  )
})

t.test('what cannot be fetched is said in words, and changes nothing', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-ipxe-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const recipes = join(import.meta.dirname, '../../images')
  const mirror = process.env.PAWL_DEBIAN_MIRROR
  t.teardown(() => {
    if (mirror === undefined) delete process.env.PAWL_DEBIAN_MIRROR
    else process.env.PAWL_DEBIAN_MIRROR = mirror
  })
  process.env.PAWL_DEBIAN_MIRROR = 'http://127.0.0.1:1/debian'
  const request = { dataDir: folder, suite: 'trixie', recipes, now: new Date(0) } as const
  await t.rejects(fetchIpxe(request), { code: 'unreachable', message: /^Debian's iPXE cannot be fetched: ./ })
  await t.rejects(fetchIpxe({ ...request, recipes: folder }), { code: 'unreachable' })
})
