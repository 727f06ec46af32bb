import { isPawlError } from '../../src/errors.ts'
import type { By } from '../../src/fleet/change.ts'

/** An operator, as changes record one. */
export const ann: By = { actor: 'operator:ann', source: '198.51.100.7', role: 'operator' }

/** An admin. */
export const root: By = { actor: 'operator:root', source: '198.51.100.8', role: 'admin' }

/** `code: message` of the error that `work` ends in, with its hint; fails the test where it ends well. */
export async function errorOf(
  work: Promise<unknown>,
): Promise<{ code: string; message: string; hint: string }> {
  try {
    await work
  } catch (error) {
    if (!isPawlError(error)) throw error
    return { code: error.code, message: error.message, hint: error.hint ?? '' }
  }
  throw new Error('nothing was refused')
}
