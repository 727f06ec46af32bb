import Type from '../../domain/schema.ts'
import { applyProfile, listProfiles, showProfile } from '../../fleet/profiles.ts'
import { nothing, pageAsked, pageQuery } from '../schemas/answers.ts'
import { appliedProfileAnswer, profileAnswer, profilesAnswer } from '../schemas/fleet.ts'
import { bare, named, type OperatorApp, type OperatorParts, op } from './operator-app.ts'

const viewer = { config: { role: 'viewer' } } as const

/** Profiles. What is sent is read by domain/profile.ts, which says what is wrong with it better than a schema here could. */
export function profileRoutes(app: OperatorApp, { context, auth }: OperatorParts): void {
  const { db } = context.storage
  app.get(
    '/profiles',
    {
      ...viewer,
      schema: {
        ...op('profiles', 'listProfiles', 'Lists profiles by name.'),
        querystring: pageQuery,
        response: { 200: profilesAnswer },
      },
    },
    (request) => listProfiles(db, pageAsked(request.query)),
  )
  app.get(
    '/profiles/:name',
    {
      config: { role: 'viewer', revised: true },
      schema: {
        ...op('profiles', 'getProfile', 'Shows a profile; its secret settings are ***.'),
        ...bare,
        params: named,
        response: { 200: profileAnswer },
      },
    },
    (request) => showProfile(db, request.params.name),
  )
  app.put(
    '/profiles/:name',
    {
      config: { role: 'operator', revised: 'create', problems: ['render-failed'] },
      schema: {
        ...op('profiles', 'applyProfile', 'Makes or changes a profile.'),
        params: named,
        body: Type.Unknown(),
        querystring: nothing,
        response: { 200: appliedProfileAnswer },
      },
    },
    (request) => applyProfile(context, auth.byOf(request), request.params.name, request.body),
  )
}
