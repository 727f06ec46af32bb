import { connectionLimits, workKinds } from '../../domain/load.ts'
import Type from '../../domain/schema.ts'
import { type NodeState, nodeTransitions } from '../../domain/state.ts'
import type { StatusView } from '../../fleet/status.ts'
import { answers, textOrNull } from './answers.ts'

/** The server that answers. */
export interface ServerStatus {
  readonly version: string
  readonly database: 'sqlite' | 'postgres'
  /** Until when each listener's certificate is good; they renew by themselves. */
  readonly certificates: readonly { readonly listener: string; readonly notAfter: string }[]
}

/** The server and its fleet, at a glance. */
export type StatusAnswer = StatusView & { readonly server: ServerStatus }

const states = Type.Object(
  Object.fromEntries(
    (Object.keys(nodeTransitions) as NodeState[]).map((state) => [state, Type.Optional(Type.Integer())]),
  ),
)

const number = Type.Number()
const counts = <Name extends string>(names: readonly Name[]) =>
  Type.Unsafe<Readonly<Record<Name, number>>>(
    Type.Object(Object.fromEntries(names.map((name) => [name, Type.Integer()]))),
  )

/** A process that serves, and what it has to do. */
const processStatus = Type.Object({
  id: Type.String(),
  host: Type.String(),
  pid: Type.Integer(),
  role: Type.String(),
  startedAt: Type.String(),
  seenAt: Type.String(),
  load: Type.Object({
    working: Type.Integer(),
    waiting: Type.Integer(),
    longestWaitSeconds: number,
    servedPerSecond: Type.Union([number, Type.Null()]),
    admitted: Type.Integer(),
    waited: Type.Integer(),
    waitedSeconds: number,
    toldToWait: Type.Integer(),
    toldToWaitBy: counts(workKinds),
    sites: Type.Integer(),
    overloadedSince: textOrNull,
    downloads: Type.Integer(),
    connections: Type.Integer(),
    handshakes: Type.Integer(),
    handshakesWaiting: Type.Integer(),
    closed: counts(connectionLimits),
    eventLoopLagSeconds: number,
    memoryBytes: Type.Integer(),
    cpuSeconds: number,
    nodesWaiting: Type.Integer(),
  }),
})

/** The server and its fleet, at a glance. */
export const statusAnswer = answers<StatusAnswer>()(
  Type.Object({
    server: Type.Object({
      version: Type.String(),
      database: Type.Unsafe<'sqlite' | 'postgres'>(Type.String({ enum: ['sqlite', 'postgres'] })),
      certificates: Type.Array(Type.Object({ listener: Type.String(), notAfter: Type.String() })),
    }),
    nodes: Type.Object({
      total: Type.Integer(),
      states: Type.Unsafe<StatusView['nodes']['states']>(states),
    }),
    boots: Type.Object({ slow: Type.Integer(), stuck: Type.Integer(), looping: Type.Integer() }),
    reinstalls: Type.Object({ marked: Type.Integer(), serving: Type.Integer() }),
    pending: Type.Integer(),
    rollouts: Type.Array(
      Type.Object({
        id: Type.String(),
        channel: Type.String(),
        version: Type.String(),
        state: Type.String(),
        wave: Type.Integer(),
      }),
    ),
    proposals: Type.Integer(),
    sharedAddresses: Type.Integer(),
    refusals: Type.Object({ lastHour: Type.Integer(), nodes: Type.Integer() }),
    processes: Type.Array(processStatus),
    webhooks: Type.Object({ total: Type.Integer(), notWell: Type.Array(Type.String()) }),
  }),
)
