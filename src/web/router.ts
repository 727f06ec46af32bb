/** Where in the dashboard one is: the part of the address behind `#`. */
export interface Place {
  /** The first word: the page. */
  readonly page: string
  /** What the page is about, as a node's name. */
  readonly subject: string | undefined
  readonly query: URLSearchParams
}

/** Reads an address such as `#/node/mlab1?session=…`. */
export function placeOf(hash: string): Place {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2)
  const [page = '', ...rest] = path.split('/')
  const subject = rest.length === 0 ? undefined : decode(rest.join('/'))
  return { page: page === '' ? 'fleet' : page, subject, query: new URLSearchParams(query) }
}

/** The address of a page. */
export function hrefOf(page: string, subject?: string, query: Readonly<Record<string, string>> = {}): string {
  const path = subject === undefined ? page : `${page}/${encodeURIComponent(subject)}`
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== '')).toString()
  return `#/${path}${asked === '' ? '' : `?${asked}`}`
}

/** Goes there. */
export function go(href: string): void {
  location.hash = href
}

/** Calls `listener` with each new place; returns what ends it. */
export function watchPlace(listener: (place: Place) => void): () => void {
  const changed = (): void => listener(placeOf(location.hash))
  window.addEventListener('hashchange', changed)
  return () => window.removeEventListener('hashchange', changed)
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // typed by hand, and no name of anything
  }
}
