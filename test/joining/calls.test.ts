import t from 'tap'
import { Busy } from '../../src/joining/calls.ts'
import { openJoining } from '../../src/open-joining.ts'

/** The joins that `making` takes of clusters that do not answer, of five each, before it has no room. */
function heldOf(maxBootWork: number): number {
  const { making } = openJoining({
    config: { joinCredentialSeconds: 300, clusterTimeoutSeconds: 10, maxClusterCalls: 5, maxBootWork },
    clock: () => new Date(),
    meter: { called() {}, busy() {} },
    onError: () => {},
  })
  for (let n = 0; n < 100; n += 1)
    making
      .run(`cluster${Math.floor(n / 5)}`, () => new Promise(() => {}))
      .catch((error) => t.type(error, Busy))
  return making.load().calling
}

t.test(
  'clusters that do not answer leave places to the boots of others, also where there are few',
  async (t) => {
    const held = [1, 2, 8, 16, 64, 1000].map((maxBootWork) => [maxBootWork, heldOf(maxBootWork)])
    t.same(held, [
      [1, 1],
      [2, 1],
      [8, 5],
      [16, 10],
      [64, 40],
      [1000, 40],
    ])
  },
)
