import t from 'tap'
import { checkScope, issueOperator, revokeOperator, showOperators } from '../../src/fleet/operators.ts'
import type { Role } from '../../src/storage/tables.ts'
import { wholeList } from '../helpers/fleet.ts'
import { ann, errorOf, root } from '../helpers/operators.ts'
import { forEachDatabase } from '../helpers/world.ts'

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('refuses a token that would say more than it can', async (t) => {
    const { context } = await openWorld()
    const before = (await showOperators(context.storage.db, wholeList)).items
    const cases: [string, Parameters<typeof issueOperator>[1], string, RegExp][] = [
      [
        'a name of two words',
        { name: 'an n', role: 'viewer', expiresAt: null },
        'invalid',
        /operator name "an n"/,
      ],
      [
        'a time that is over',
        { name: 'ann', role: 'viewer', expiresAt: new Date(0) },
        'invalid',
        /which is over/,
      ],
      ...(['viewer', 'operator', 'admin'] as Role[]).map(
        (role): [string, Parameters<typeof issueOperator>[1], string, RegExp] => [
          `a scope for ${role}`,
          { name: 'ann', role, expiresAt: null, scope: 'worker*' },
          'invalid',
          /a scope is for the role publisher/,
        ],
      ),
      [
        'a scope that is no pattern',
        { name: 'ann', role: 'publisher', expiresAt: null, scope: 'a b' },
        'invalid',
        /not a pattern of image names/,
      ],
    ]
    for (const [what, asked, code, message] of cases) {
      const error = await errorOf(issueOperator(context, asked, root))
      t.match([error.code, error.message], [code, message], what)
    }
    t.same((await showOperators(context.storage.db, wholeList)).items, before)
  })

  await t.test('revokes a token once, and never the last admin that is good', async (t) => {
    const world = await openWorld()
    const { context } = world
    const make = (name: string, role: Role, seconds?: number) =>
      issueOperator(
        context,
        {
          name,
          role,
          expiresAt: seconds === undefined ? null : new Date(world.clock.now().getTime() + seconds * 1000),
        },
        root,
      )
    const only = await make('root', 'admin')
    const soon = await make('guest', 'admin', 60)
    const viewer = await make('ann', 'viewer')
    t.equal((await errorOf(revokeOperator(context, root, 'nobody'))).code, 'not-found')
    const revoked = await revokeOperator(context, root, viewer.id)
    t.equal(revoked.revokedAt, world.clock.now().toISOString())
    world.clock.advance(61)
    t.same(await revokeOperator(context, root, viewer.id), revoked, 'again: no change')
    t.match(
      await errorOf(revokeOperator(context, root, only.id)),
      {
        code: 'conflict',
        message: `token ${only.id} of root is the last admin's`,
      },
      'the other admin expires',
    )
    await make('second', 'admin')
    t.not((await revokeOperator(context, root, only.id)).revokedAt, null)
    t.not((await revokeOperator(context, root, soon.id)).revokedAt, null)
    t.same(
      (await world.events({ kind: 'operator-revoked' })).map((event) => [event.actor, event.detail.name]),
      [
        ['operator:root', 'ann'],
        ['operator:root', 'root'],
        ['operator:root', 'guest'],
      ],
    )
    t.notMatch(
      await world.dump(),
      new RegExp([only, soon, viewer].map(({ token }) => token.slice(12)).join('|')),
    )
  })

  await t.test('of two admins that are revoked at once one stays', async (t) => {
    const { context } = await openWorld()
    for (let round = 0; round < 5; round++) {
      const made = await Promise.all(
        ['a', 'b'].map((name) => issueOperator(context, { name, role: 'admin', expiresAt: null }, root)),
      )
      const before = (await showOperators(context.storage.db, wholeList)).items.filter(
        ({ id, role, revokedAt }) =>
          role === 'admin' && revokedAt === null && made.every((one) => one.id !== id),
      )
      for (const { id } of before) await revokeOperator(context, root, id)
      const ends = await Promise.allSettled(made.map(({ id }) => revokeOperator(context, root, id)))
      t.same(ends.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
    }
  })

  await t.test('a scope is a pattern of names, and only its own', async (t) => {
    const cases: [string | null, string, boolean][] = [
      [null, 'anything', true],
      ['worker*', 'worker', true],
      ['worker*', 'worker-gpu', true],
      ['worker*', 'my-worker', false],
      ['worker', 'worker2', false],
      ['?_a', 'x_a', true],
      ['*', 'worker', true],
      ['w.rker', 'worker', false],
    ]
    for (const [scope, name, may] of cases) {
      const check = (): void => checkScope({ ...ann, role: 'publisher', scope }, name)
      if (may) check()
      else t.throws(check, { code: 'forbidden', message: `this token is for images named "${scope}"` })
    }
  })
})
