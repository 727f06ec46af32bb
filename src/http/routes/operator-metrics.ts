import Type from '../../domain/schema.ts'
import { listPrometheusTargets } from '../../fleet/prometheus-targets.ts'
import { targetsAnswer, targetsQuery } from '../schemas/metrics.ts'
import { bare, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

/** What the server and its fleet are measured by, for a scrape with this Accept. */
export interface MetricsAnswers {
  answer(accept: string | undefined): Promise<{ readonly type: string; readonly body: string }>
}

const viewer = { config: { role: 'viewer' } } as const

/** What Prometheus scrapes; outside the API, where it looks by itself. */
export function metricsRoutes(app: OperatorApp, { metrics }: OperatorParts): void {
  app.get(
    '/metrics',
    {
      ...viewer,
      schema: {
        ...op('health', 'getMetrics', 'Gives all metrics: OpenMetrics where Accept asks for it, else text.'),
        ...bare,
        produces: ['text/plain', 'application/openmetrics-text'],
        response: { 200: Type.String() },
      },
    },
    async (request, reply) => {
      const { type, body } = await metrics.answer(request.headers.accept)
      return reply.type(type).send(body)
    },
  )
}

/** Where Prometheus finds the machines. */
export function targetRoutes(app: OperatorApp, { context }: OperatorParts): void {
  app.get(
    '/prometheus/sd',
    {
      ...viewer,
      schema: {
        ...op('nodes', 'listPrometheusTargets', 'Lists nodes for HTTP service discovery of Prometheus.'),
        description:
          'Always the whole list, of the nodes that are `ready` unless `state` says otherwise. Each is one group with one target, its address and `port`, and labels `__meta_pawl_…`.',
        querystring: targetsQuery,
        response: { 200: targetsAnswer },
      },
    },
    ({ query: { port = 9100, state = 'ready' } }) => listPrometheusTargets(context, { port, state }),
  )
}
