import { createHash } from 'node:crypto'

/**
 * Texts that PostgreSQL prepares once for each connection, and the name of each: it parses and plans a statement of ours for
 * longer than it runs it. Their number is that of the `statement`s of the code.
 */
const names = new Map<string, string>()

/** Has a text prepared where it is next run. The same text has the same name in every process. */
export function prepare(text: string): void {
  if (!names.has(text)) names.set(text, createHash('sha256').update(text).digest('hex').slice(0, 24))
}

/** The name of a text that is to be prepared. */
export function preparedName(text: string): string | undefined {
  return names.get(text)
}

/**
 * Whether what was prepared cannot be used any more, though its text can: a newer server of a rolling update gave a table columns
 * that it selects (0A000 by RevalidateCachedQuery, whose words depend on the locale), or somebody discarded it (26000).
 */
export function isStale(error: unknown): boolean {
  const { code, routine } = (error ?? {}) as { readonly code?: unknown; readonly routine?: unknown }
  return code === '26000' || (code === '0A000' && routine === 'RevalidateCachedQuery')
}
