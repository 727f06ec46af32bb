import t from 'tap'
import { signIn } from '../../src/fleet/sign-in.ts'
import type { SignInSettings } from '../../src/fleet/sign-in-settings.ts'
import { errorOf } from '../helpers/operators.ts'
import { forEachDatabase } from '../helpers/world.ts'

const settings: SignInSettings = {
  operatorUrl: 'https://pawl.example',
  issuer: 'https://idp.example',
  groupsClaim: 'groups',
  nameClaim: 'preferred_username',
  roles: [{ group: 'ops', role: 'operator' }],
  idleSeconds: 3600,
  maxSeconds: 43_200,
  loginTokenSeconds: 43_200,
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'a person renamed at the provider stays who they were, and their name stays theirs',
    async (t) => {
      const world = await openWorld()
      const enter = (sub: string, name: string): ReturnType<typeof signIn> =>
        signIn(world.context, settings, { sub, preferred_username: name, groups: ['ops'] }, '192.0.2.1')
      t.equal((await enter('u1', 'ann')).name, 'oidc/ann')
      // By another name the same account once approved what it had proposed itself.
      t.equal((await enter('u1', 'ann2')).name, 'oidc/ann')
      t.match((await world.events({ kind: 'signed-in' })).at(-1), {
        actor: 'operator:oidc/ann',
        detail: { name: 'oidc/ann', claimed: 'oidc/ann2' },
      })
      t.match(await errorOf(enter('u2', 'ann')), {
        code: 'sign-in-refused',
        message: /another account of the provider has had this name/,
      })
      t.equal((await enter('u2', 'ann2')).name, 'oidc/ann2', 'a name that nobody had is free')
    },
  )
})
