import Type from '../../domain/schema.ts'
import { type NodeState, nodeTransitions } from '../../domain/state.ts'
import type { PrometheusTargets } from '../../fleet/prometheus-targets.ts'
import { answers, oneOf } from './answers.ts'

const states = [...(Object.keys(nodeTransitions) as NodeState[]), 'any'] as const // the table's own keys

/** Which nodes Prometheus is to find, and where on them. */
export const targetsQuery = Type.Object(
  {
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535, default: 9100 })),
    state: Type.Optional(oneOf(states)),
  },
  { additionalProperties: false },
)

/** The list as Prometheus' HTTP service discovery reads it. */
export const targetsAnswer = Type.Array(
  answers<PrometheusTargets>('PrometheusTargets')(
    Type.Object({
      targets: Type.Array(Type.String()),
      labels: Type.Record(Type.String(), Type.String()),
    }),
  ),
)
