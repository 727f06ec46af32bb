import Type from '../../domain/schema.ts'
import {
  cancelCampaign,
  listCampaigns,
  pageOfCampaign,
  pauseCampaign,
  resumeCampaign,
  showCampaign,
} from '../../fleet/campaigns.ts'
import { once } from '../../fleet/idempotency.ts'
import { pageOf } from '../../fleet/listed.ts'
import { reinstall } from '../../fleet/reinstall.ts'
import { nothing, pageAsked, pageQuery, word } from '../schemas/answers.ts'
import * as schemas from '../schemas/reinstall.ts'
import { bare, bodiless, long, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const
const operator = { config: { role: 'operator' } } as const
const numbered = Type.Object({ id: word })

/** Reinstalls: of one node or many, and how those of many stand. */
export function reinstallRoutes(app: OperatorApp, parts: OperatorParts): void {
  const { context, auth } = parts
  app.post(
    '/reinstall',
    {
      ...long(parts), // of a whole fleet
      config: { role: 'operator', idempotent: true },
      schema: {
        ...op(
          'reinstalls',
          'reinstallNodes',
          'Marks nodes for reinstall, or takes their marks back: all of them or none.',
        ),
        body: schemas.reinstallRequest,
        querystring: nothing,
        response: { 200: schemas.reinstallAnswer },
      },
    },
    (request) => {
      const by = auth.byOf(request)
      return once(context, by, () => reinstall(context, by, request.body))
    },
  )
  app.get(
    '/reinstalls',
    {
      ...viewer,
      schema: {
        ...op('reinstalls', 'listReinstalls', 'Lists the latest hundred reinstalls of many nodes.'),
        querystring: pageQuery,
        response: { 200: schemas.campaignsAnswer },
      },
    },
    async (request) => pageOf(await listCampaigns(context), ({ id }) => id, pageAsked(request.query)),
  )
  app.get(
    '/reinstalls/:id',
    {
      ...viewer,
      schema: {
        ...op('reinstalls', 'getReinstall', 'Shows how a reinstall stands.'),
        ...bare,
        params: numbered,
        response: { 200: schemas.campaignAnswer },
      },
    },
    (request) => showCampaign(context, request.params.id),
  )
  app.get(
    '/reinstalls/:id/nodes',
    {
      ...viewer,
      schema: {
        ...op('reinstalls', 'listReinstallNodes', 'Lists the nodes of a reinstall by name.'),
        querystring: schemas.campaignNodesQuery,
        params: numbered,
        response: { 200: schemas.campaignNodesAnswer },
      },
    },
    (request) => {
      const { limit = 100, after, state } = request.query
      return pageOfCampaign(context, request.params.id, { limit, after, state })
    },
  )
  for (const [verb, act, operationId, summary] of [
    ['pause', pauseCampaign, 'pauseReinstall', 'Marks no further node of a reinstall.'],
    ['resume', resumeCampaign, 'resumeReinstall', 'Goes on with a paused reinstall.'],
    ['cancel', cancelCampaign, 'cancelReinstall', 'Ends a reinstall, and takes its marks back.'],
  ] as const) {
    app.post(
      `/reinstalls/:id/${verb}`,
      {
        ...operator,
        ...long(parts),
        schema: {
          ...op('reinstalls', operationId, summary),
          ...bodiless,
          params: numbered,
          response: { 200: schemas.campaignAnswer },
        },
      },
      (request) => act(context, auth.byOf(request), request.params.id),
    )
  }
}
