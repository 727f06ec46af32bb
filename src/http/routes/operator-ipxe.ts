import { ipxeAnswer } from '../schemas/ipxe.ts'
import { bare, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

/** The iPXE binaries of the server. They are added on its machine only: what boots machines is not sent by a token. */
export function ipxeListRoutes(app: OperatorApp, { ipxe }: OperatorParts): void {
  app.get(
    '/ipxe',
    {
      config: { role: 'viewer' },
      schema: {
        ...op('images', 'listIpxe', 'Lists the iPXE binaries that machines are handed.'),
        description:
          '`boots` says whether a machine boots from this server by it, `faults` which files of the folder are not served, and why.',
        ...bare,
        response: { 200: ipxeAnswer },
      },
    },
    () => ipxe(),
  )
}
