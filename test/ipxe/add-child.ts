import { addIpxe } from '../../src/ipxe/folder.ts'

/** Adds ten binaries, as ten commands one behind another would: `node add-child.ts DIR PREFIX`. */
const [dataDir = '', prefix = ''] = process.argv.slice(2)
for (let number = 0; number < 10; number += 1) {
  addIpxe(
    dataDir,
    {
      name: `${prefix}${number}.efi`,
      platform: 'efi',
      arch: 'x86_64',
      version: null,
      features: null,
      trust: { kind: 'unknown' },
      source: 'test',
      addedAt: '2026-11-21T12:00:00.000Z',
    },
    Buffer.from(`${prefix}${number}`),
  )
}
