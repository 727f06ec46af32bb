import { extensionLimits } from '../../domain/extension.ts'
import Type from '../../domain/schema.ts'
import { type ErrorCode, errorCodes } from '../../errors.ts'
import type { FleetExport, FleetSetView } from '../../fleet/fleet-export.ts'
import type { FieldChange, FleetPlan } from '../../fleet/fleet-plan.ts'
import { fleetKinds } from '../../storage/fleet-file-tables.ts'
import { answers, anyObject, oneOf, type Page, textOrNull } from './answers.ts'
import { extensionBody } from './extension.ts'
import { nodeChanges } from './node.ts'

const digest = Type.String({ pattern: '^sha256:[0-9a-f]{64}$' })

/** The name of a set of files. */
export const setName = Type.String({ pattern: '^[a-z0-9][a-z0-9-]{0,62}$' })

const node = Type.Object(
  { name: Type.String({ maxLength: 253 }), ...nodeChanges.properties },
  { additionalProperties: false },
)

const channel = Type.Object(
  {
    channel: Type.String({ maxLength: 130 }),
    version: Type.Optional(Type.String({ maxLength: 130 })),
    twoPerson: Type.Optional(Type.Boolean()),
    requireTest: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
)

/** A profile is read by domain/profile.ts, which says what is wrong with it better than a schema here could. */
const profile = Type.Object({ name: Type.String({ maxLength: 63 }) }, { additionalProperties: true })

const extension = Type.Object(
  { operation: Type.String({ maxLength: 63 }), ...extensionBody.properties },
  { additionalProperties: false },
)

/** What files say of a fleet, and how to apply them. */
export const fleetRequest = Type.Object(
  {
    set: setName,
    nodes: Type.Array(node, { maxItems: 20_000 }),
    profiles: Type.Array(profile, { maxItems: 500 }),
    channels: Type.Array(channel, { maxItems: 500 }),
    extensions: Type.Optional(Type.Array(extension, { maxItems: extensionLimits.extensions })),
    prune: Type.Optional(Type.Boolean()),
    takeOver: Type.Optional(Type.Boolean()),
    allowMassRemoval: Type.Optional(Type.Boolean()),
    files: Type.Optional(digest),
    dryRun: Type.Optional(Type.Boolean()),
    plan: Type.Optional(digest),
  },
  { additionalProperties: false, title: 'FleetRequest' },
)

/** Which part of the fleet to describe. */
export const fleetQuery = Type.Object({ set: Type.Optional(setName) }, { additionalProperties: false })

const kind = oneOf(fleetKinds)

const field = answers<FieldChange>('FieldChange')(
  Type.Object({
    field: Type.String(),
    before: Type.Unknown(),
    after: Type.Unknown(),
    secret: Type.Boolean(),
    changedBy: Type.Union([Type.Object({ actor: Type.String(), at: Type.String() }), Type.Null()]),
    drifted: Type.Boolean(),
  }),
)

const count = Type.Integer()

/** What applying files would do, or did. */
export const fleetPlanAnswer = answers<FleetPlan>('FleetPlan')(
  Type.Object({
    set: Type.String(),
    plan: Type.String(),
    applied: Type.Boolean(),
    changes: Type.Array(
      Type.Object({
        kind,
        name: Type.String(),
        action: oneOf(['add', 'change', 'remove']),
        fields: Type.Array(field),
        notes: Type.Array(Type.String()),
      }),
    ),
    faults: Type.Array(
      Type.Object({
        kind,
        name: Type.String(),
        field: textOrNull,
        code: oneOf(Object.keys(errorCodes) as ErrorCode[]), // the table's own keys
        message: Type.String(),
        hint: textOrNull,
      }),
    ),
    faultCount: count,
    warnings: Type.Array(Type.Object({ kind, name: Type.String(), message: Type.String() })),
    counts: Type.Object({
      added: count,
      changed: count,
      removed: count,
      unchanged: count,
      adopted: count,
      left: count,
    }),
    nodes: Type.Object({ before: count, removed: count }),
    massRemoval: Type.Boolean(),
  }),
)

/** The fleet as files would describe it. */
export const fleetExportAnswer = Type.Unsafe<FleetExport>(
  Type.Object({
    nodes: Type.Array(anyObject),
    profiles: Type.Array(anyObject),
    channels: Type.Array(channel),
    extensions: Type.Array(extension),
  }),
)

/** Every set of files. */
export const fleetSetsAnswer = answers<Page<FleetSetView, string>>('FleetSets')(
  Type.Object({
    items: Type.Array(
      Type.Object({
        name: Type.String(),
        nodes: count,
        profiles: count,
        channels: count,
        extensions: count,
        files: textOrNull,
        appliedAt: textOrNull,
        appliedBy: textOrNull,
      }),
    ),
    next: textOrNull,
  }),
)
