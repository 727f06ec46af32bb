import Type from '../../domain/schema.ts'
import type { IpxeBinaries } from '../../ipxe/view.ts'
import { answers, oneOf, textOrNull } from './answers.ts'

const trust = Type.Union([
  Type.Object({ kind: Type.Literal('public') }),
  Type.Object({ kind: Type.Literal('root'), fingerprint: Type.String() }),
  Type.Object({ kind: oneOf(['nobody', 'unknown'] as const) }),
])

/** The iPXE binaries that a server hands to machines. */
export const ipxeAnswer = answers<IpxeBinaries>()(
  Type.Object({
    items: Type.Array(
      Type.Object({
        name: Type.String(),
        size: Type.Integer(),
        sha256: Type.String(),
        platform: oneOf(['efi', 'bios'] as const),
        arch: oneOf(['x86_64', 'i386', 'arm64', 'arm32', 'riscv64', 'loong64'] as const),
        version: textOrNull,
        features: Type.Union([
          Type.Array(oneOf(['https', 'ipv6', 'vlan', 'params', 'digests', 'imgverify', 'ecdsa'] as const)),
          Type.Null(),
        ]),
        trust,
        source: Type.String(),
        addedAt: Type.String(),
        trustsUs: Type.Boolean(),
        boots: oneOf(['yes', 'with-root', 'unknown', 'no'] as const),
      }),
    ),
    faults: Type.Array(Type.Object({ name: Type.String(), message: Type.String() })),
  }),
)
