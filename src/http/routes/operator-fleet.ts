import { applyFleet } from '../../fleet/fleet-apply.ts'
import { exportFleet, listFleetSets } from '../../fleet/fleet-export.ts'
import { pageOf } from '../../fleet/listed.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import {
  fleetExportAnswer,
  fleetPlanAnswer,
  fleetQuery,
  fleetRequest,
  fleetSetsAnswer,
} from '../schemas/fleet-files.ts'
import { long, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const

/** A fleet of 20,000 nodes with all their fields is about half of this. */
const maxFleetBytes = 16 * 1024 * 1024

/** The fleet as files: what they would change, applying them, and the files that describe it. */
export function fleetRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth } = parts
  const { db } = context.storage
  app.post(
    '/fleet',
    {
      config: { role: 'operator' },
      ...long(parts),
      bodyLimit: maxFleetBytes,
      schema: {
        ...op('fleet', 'applyFleet', 'Applies fleet files, or with dryRun says what that would do.'),
        body: fleetRequest,
        querystring: nothing,
        response: { 200: fleetPlanAnswer },
      },
    },
    (request) => applyFleet(context, auth.byOf(request), request.body),
  )
  app.get(
    '/fleet',
    {
      ...viewer,
      schema: {
        ...op('fleet', 'exportFleet', 'Describes the fleet, or one set of it, as fleet files do.'),
        querystring: fleetQuery,
        response: { 200: fleetExportAnswer },
      },
    },
    (request) => exportFleet(context, request.query.set),
  )
  app.get(
    '/fleet/sets',
    {
      ...viewer,
      schema: {
        ...op('fleet', 'listFleetSets', 'Lists the sets of fleet files that were applied.'),
        querystring: pageQuery,
        response: { 200: fleetSetsAnswer },
      },
    },
    async (request) => pageOf(await listFleetSets(db), ({ name }) => name, pageAsked(request.query)),
  )
}
