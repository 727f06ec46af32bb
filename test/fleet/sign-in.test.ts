import t from 'tap'
import { beginLogin } from '../../src/fleet/login-requests.ts'
import { signIn } from '../../src/fleet/sign-in.ts'
import type { SignInSettings } from '../../src/fleet/sign-in-settings.ts'
import { errorOf } from '../helpers/operators.ts'
import { forEachDatabase } from '../helpers/world.ts'

const settings = {
  operatorUrl: 'https://pawl.example.test',
  issuer: 'https://idp.example.test',
  groupsClaim: 'groups',
  nameClaim: 'preferred_username',
  roles: [{ group: 'ops', role: 'operator' }],
  idleSeconds: 3600,
  maxSeconds: 43_200,
  loginTokenSeconds: 43_200,
} as unknown as SignInSettings

await forEachDatabase(t, async (t, openWorld) => {
  await t.test(
    'a person who signs in for the first time in five windows at once is signed in in all',
    async (t) => {
      const world = await openWorld()
      const claims = { sub: 'u1', preferred_username: 'ann', groups: ['ops'] }
      const signedIn = await Promise.all(
        Array.from({ length: 5 }, () => signIn(world.context, settings, claims, '192.0.2.1')),
      )
      t.equal(new Set(signedIn.map(({ name }) => name)).size, 1)
      const { db } = world.context.storage
      t.equal((await db.selectFrom('people').selectAll().execute()).length, 1)
      t.equal((await db.selectFrom('operator_sessions').selectAll().execute()).length, 5)
    },
  )

  await t.test('who has many addresses keeps nobody else out of pawl login', async (t) => {
    const { context, clock } = await openWorld()
    const begin = (source: string): Promise<unknown> => {
      clock.advance(0.1)
      return beginLogin(context, settings, { label: 'x', source })
    }
    const waiting = async (begins: string): Promise<number> =>
      (await context.storage.db.selectFrom('login_requests').select('source').execute()).filter(
        ({ source }) => source.startsWith(begins),
      ).length
    const hex = (n: number): string => n.toString(16)
    for (let n = 0; n < 50; n += 1) await begin(`2001:db8:0:${hex(n)}::1`)
    t.match(
      await errorOf(begin('2001:db8:0:ffff::1')),
      { code: 'overloaded' },
      'a /48 has its part, however many /64s it is',
    )
    for (let n = 0; n < 450; n += 1) await begin(`2001:db8:${hex(1 + (n % 150))}:${hex(n)}::1`)
    t.equal(await waiting(''), 500)
    await begin('192.0.2.1')
    t.same([await waiting('192.0.2.1'), await waiting('2001:db8:0:'), await waiting('')], [1, 49, 500])
    for (let n = 0; n < 100; n += 1)
      await errorOf(begin(`2001:db8:0:${hex(n)}::2`).then(() => Promise.reject(new Error('one more'))))
    t.equal(await waiting('192.0.2.1'), 1, 'and is not pushed out by those who have most')
  })
})
