import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import t from 'tap'
import { listen } from '../helpers/operator-listener.ts'
import { forEachDatabase } from '../helpers/world.ts'

/** The dashboard's limit: what a browser loads before it shows anything, compressed. */
const maxLoadBytes = 200_000

let isFirst = true
await forEachDatabase(t, async (t, openWorld) => {
  if (!isFirst) return // it asks no database
  isFirst = false
  await t.test('the dashboard is one page and its files, under a strict policy', async (t) => {
    const { app } = await listen(t, openWorld)
    const page = await app.inject('/')
    t.equal(page.statusCode, 200)
    t.match(page.headers, {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-cache',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
    })
    const policy = String(page.headers['content-security-policy'])
    t.notMatch(policy, /unsafe|https?:|\*/, 'nothing from elsewhere, nothing inline')
    t.match(policy, /default-src 'none'; script-src 'self'/)
    t.notMatch(page.payload, /<script(?! type="module" src=)|\sstyle=|\son\w+=|https?:\/\/(?!www\.w3\.org)/)
    t.equal(
      (await app.inject({ url: '/', headers: { 'if-none-match': String(page.headers.etag) } })).statusCode,
      304,
    )

    const base = /\/assets\/[0-9a-f]{16}/.exec(page.payload)?.[0] ?? ''
    const wanted = [`${base}/web/style.css`, `${base}/web/main.js`]
    let loaded = Buffer.byteLength(page.payload)
    const seen = new Set<string>()
    for (let path = wanted.pop(); path !== undefined; path = wanted.pop()) {
      if (seen.has(path)) continue
      seen.add(path)
      const answer = await app.inject({ url: path, headers: { 'accept-encoding': 'gzip, deflate, br' } })
      t.equal(answer.statusCode, 200, path)
      t.match(answer.headers, {
        'content-type': path.endsWith('.css') ? 'text/css; charset=utf-8' : 'text/javascript; charset=utf-8',
        'content-encoding': 'br',
        'cache-control': 'public, max-age=31536000, immutable',
        vary: 'accept-encoding',
      })
      loaded += answer.rawPayload.length
      const text = brotliDecompressSync(answer.rawPayload).toString()
      const zipped = await app.inject({ url: path, headers: { 'accept-encoding': 'gzip' } })
      t.equal(gunzipSync(zipped.rawPayload).toString(), text)
      t.equal((await app.inject(path)).payload, text, 'without encodings it is sent as it is')
      for (const [, target = ''] of text.matchAll(/(?:from|import)\s*["'](\.[^"']+)["']/g))
        wanted.push(new URL(target, `https://x${path}`).pathname)
    }
    t.ok(seen.size > 20, 'every module was loaded')
    t.ok(loaded < maxLoadBytes, `${loaded} bytes`)
    t.comment(`${seen.size} files, ${loaded} bytes compressed`)

    for (const path of [
      `${base}/web/nothing.js`,
      `${base}/web/../../package.json`,
      `${base}/web/..%2f..%2fpackage.json`,
      `${base}/domain/token.js`,
      `${base}/storage/database.js`,
      `/assets/0000000000000000/web/main.js`,
      `${base}/`,
    ])
      t.equal((await app.inject(path)).statusCode, 404, path)
  })
})
