import type { BootContext } from '../boot/context.ts'
import { PawlError } from '../errors.ts'
import type { Queries } from '../storage/database.ts'
import { findImage } from '../storage/fleet.ts'
import type { ImageTestRow } from '../storage/image-tables.ts'
import { insertImageTest, listImageTests as listRows } from '../storage/image-tests.ts'
import { type By, change } from './change.ts'
import { checkScope } from './operators.ts'

/** How a test boot of an image version went. */
export interface ImageTestView {
  readonly id: string
  readonly passed: boolean
  /** What was booted with it, how long it took, and what went wrong. */
  readonly detail: Readonly<Record<string, unknown>>
  readonly by: string
  readonly at: string
}

/** A test's result, as whoever ran it tells it. */
export interface NewImageTest {
  readonly passed: boolean
  readonly detail: Readonly<Record<string, unknown>>
}

const maxDetailBytes = 32 * 1024

/** Writes down how a test boot went. The latest is what a channel that wants tests goes by. */
export function recordImageTest(
  context: BootContext,
  by: By,
  { name, version }: { name: string; version: string },
  test: NewImageTest,
): Promise<ImageTestView> {
  checkScope(by, name)
  const detail = JSON.stringify(test.detail)
  if (detail.length > maxDetailBytes)
    throw new PawlError('too-large', `the result has ${detail.length} bytes; ${maxDetailBytes} are the limit`)
  return change(context, by, async ({ tx, now, note }) => {
    const image = await findImage(tx, name, version)
    if (image === undefined) throw new PawlError('not-found', `image "${name}@${version}" is not published`)
    const row: ImageTestRow = {
      id: Buffer.from(context.randomBytes(9)).toString('base64url'),
      name,
      version,
      passed: test.passed ? 1 : 0,
      detail,
      tested_by: by.actor,
      tested_at: now.toISOString(),
    }
    await insertImageTest(tx, row)
    await note('image-tested', null, {
      image: `${name}@${version}`,
      digest: image.digest,
      passed: test.passed,
    })
    return viewOf(row)
  })
}

/** An image version's last tests, the latest first. */
export async function listImageTests(db: Queries, name: string, version: string): Promise<ImageTestView[]> {
  return (await listRows(db, name, version)).map(viewOf)
}

function viewOf(row: ImageTestRow): ImageTestView {
  return {
    id: row.id,
    passed: row.passed === 1,
    detail: JSON.parse(row.detail) as ImageTestView['detail'], // our own column
    by: row.tested_by,
    at: row.tested_at,
  }
}
