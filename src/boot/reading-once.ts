/**
 * A reader that keeps what it has read, by the text: rows of which many boots ask for the same. What it gives is shared, and must not be
 * changed. When it has kept `most`, it forgets all of them.
 */
export function readingOnce<Read>(most: number, read: (text: string) => Read): (text: string) => Read {
  const kept = new Map<string, Read>()
  return (text) => {
    const known = kept.get(text)
    if (known !== undefined) return known
    const value = read(text)
    if (kept.size >= most) kept.clear()
    kept.set(text, value)
    return value
  }
}
