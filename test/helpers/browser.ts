import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'

/** What a page answered. */
export interface Shown {
  readonly url: string
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
}

/** A browser without a screen: cookies for each host, redirects as they come, forms as a page has them. */
export interface Browser {
  /** Opens a page and goes where it sends to. */
  open(url: string): Promise<Shown>
  /** One request, no redirect followed. */
  ask(url: string, options?: Asked): Promise<Shown>
  /** Sends the page's form (the one with this action, or the first) as it stands, with these values, and goes where it sends to. */
  submit(page: Shown, values?: Readonly<Record<string, string>>): Promise<Shown>
  /** What it would send to this host. */
  readonly cookies: Map<string, Map<string, string>>
}

interface Asked {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** Opens a browser that trusts `ca`. */
export function openBrowser(ca: string): Browser {
  const cookies = new Map<string, Map<string, string>>()

  async function ask(url: string, { method = 'GET', headers = {}, body }: Asked = {}): Promise<Shown> {
    const { host, protocol } = new URL(url)
    const jar = cookies.get(host) ?? new Map<string, string>()
    cookies.set(host, jar)
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
    const sent = { accept: 'text/html', ...(cookie === '' ? {} : { cookie }), ...headers }
    const message =
      protocol === 'http:'
        ? httpRequest(url, { method, headers: sent, agent: false })
        : httpsRequest(url, { method, headers: sent, agent: false, ca })
    message.end(body)
    const [response] = (await once(message, 'response')) as [IncomingMessage]
    const chunks: Buffer[] = []
    for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk)
    for (const line of response.headers['set-cookie'] ?? []) keep(jar, line)
    return {
      url,
      status: response.statusCode ?? 0,
      headers: response.headers,
      text: Buffer.concat(chunks).toString('utf8'),
    }
  }

  async function follow(shown: Shown): Promise<Shown> {
    let at = shown
    for (let hops = 0; at.headers.location !== undefined && hops < 10; hops += 1)
      at = await ask(new URL(at.headers.location, at.url).href)
    return at
  }

  return {
    cookies,
    ask,
    open: async (url) => follow(await ask(url)),
    async submit(page, values = {}) {
      const [, action = '', inner = ''] =
        /<form[^>]*action="([^"]*)"[^>]*>([\s\S]*?)<\/form>/.exec(page.text) ?? []
      const hidden = [...inner.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)]
      const fields = new URLSearchParams(
        hidden.map(([, name = '', value = '']): [string, string] => [name, value]),
      )
      for (const [name, value] of Object.entries(values)) fields.set(name, value)
      const url = new URL(action, page.url)
      const headers = {
        'content-type': 'application/x-www-form-urlencoded',
        origin: new URL(page.url).origin,
        'sec-fetch-site': 'same-origin',
      }
      return follow(await ask(url.href, { method: 'POST', headers, body: fields.toString() }))
    },
  }
}

function keep(jar: Map<string, string>, line: string): void {
  const [pair = '', ...attributes] = line.split(';').map((part) => part.trim())
  const at = pair.indexOf('=')
  const over = attributes.some((one) => /^max-age=0$/i.test(one) || /^expires=Thu, 01 Jan 1970/i.test(one))
  if (over) jar.delete(pair.slice(0, at))
  else jar.set(pair.slice(0, at), pair.slice(at + 1))
}
