import { setImmediate as turn } from 'node:timers/promises'
import type { Test } from 'tap'

/** Asks again and again what has no event to wait for, until it is as expected; fails when it stays otherwise. */
export async function until(t: Test, ask: () => Promise<unknown>, expected: unknown): Promise<void> {
  let found: unknown
  for (let tries = 0; tries < 500; tries += 1) {
    found = await ask()
    if (JSON.stringify(found) === JSON.stringify(expected)) break
    await turn()
  }
  t.same(found, expected)
}
