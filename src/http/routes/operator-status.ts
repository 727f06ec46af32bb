import manifest from '../../../package.json' with { type: 'json' }
import { showStatus } from '../../fleet/status.ts'
import { statusAnswer } from '../schemas/status.ts'
import { bare, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

/** What one looks at first. */
export function statusRoutes(app: OperatorApp, { context, certificates }: OperatorParts): void {
  app.get(
    '/status',
    {
      config: { role: 'viewer' },
      schema: {
        ...op('health', 'getStatus', 'Shows the server and its fleet at a glance.'),
        ...bare,
        response: { 200: statusAnswer },
      },
    },
    async () => ({
      ...(await showStatus(context)),
      server: {
        version: manifest.version,
        database: context.storage.dialect,
        certificates: certificates().map(({ listener, notAfter }) => ({
          listener,
          notAfter: notAfter.toISOString(),
        })),
      },
    }),
  )
}
