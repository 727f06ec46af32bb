import { setTimeout as pause } from 'node:timers/promises'
import type { Test } from 'tap'

/**
 * Asks again and again what has no event to wait for, until it is as expected; fails when it stays otherwise. How long it
 * may take says nothing of a machine's speed: it ends a test that would never end.
 */
export async function until(t: Test, ask: () => Promise<unknown>, expected: unknown): Promise<void> {
  const giveUp = performance.now() + 300_000
  let found = await ask()
  for (let wait = 0; JSON.stringify(found) !== JSON.stringify(expected); wait = Math.min(wait + 1, 50)) {
    if (performance.now() > giveUp) break
    await pause(wait)
    found = await ask()
  }
  t.same(found, expected)
}
