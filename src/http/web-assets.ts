import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import { dirname, extname, join, posix, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'

/**
 * The dashboard as browsers get it. It has no build step: its modules are read when it is first asked for, their types are
 * stripped (as Node does with ours), and their imports are made relative paths. What they name is what there is: nothing else of
 * the folder can be asked for. One hash stands for all of them, so that a browser keeps them for ever and never mixes two versions.
 */
export interface WebAssets {
  /** The page, with the paths of what it loads. `signIn` says how people sign in. */
  readonly page: (signIn: 'provider' | 'token') => string
  /** The version of all files: a part of their path. */
  readonly hash: string
  /** A file by its path behind the hash; undefined where there is none. */
  readonly find: (path: string) => WebAsset | undefined
}

/** A file as it is sent. */
export interface WebAsset {
  readonly type: string
  readonly bytes: Buffer
  readonly brotli: Buffer
  readonly gzip: Buffer
}

const source = join(import.meta.dirname, '..')
const webFolder = join(source, 'web')
/** What modules of the page may be: its own, and what is true everywhere. */
const servedFolders = /^(web|domain)\/|^errors\.[jt]s$/
const importPattern = /(\bfrom\s*|\bimport\s*)(['"])([^'"]+)\2/g

/** Reads the dashboard. */
export async function loadWebAssets(): Promise<WebAssets> {
  const texts = new Map<string, string>()
  await gather('web/main.ts', texts)
  texts.set('web/style.css', await readFile(join(webFolder, 'style.css'), 'utf8'))
  const hash = createHash('sha256')
    .update(JSON.stringify([...texts].sort()))
    .digest('hex')
    .slice(0, 16)
  const files = new Map<string, WebAsset>()
  for (const [path, text] of texts) files.set(path, await packed(path, text))
  const html = await readFile(join(webFolder, 'index.html'), 'utf8')
  return {
    hash,
    page: (signIn) => html.replaceAll('%ASSETS%', `/assets/${hash}`).replaceAll('%SIGN-IN%', signIn),
    find: (path) => files.get(path),
  }
}

/** A module and all that it imports, by the paths they are served at. */
async function gather(file: string, texts: Map<string, string>): Promise<void> {
  const served = servedPath(file)
  if (texts.has(served)) return
  texts.set(served, '') // two may import each other
  const written = await readFile(file.startsWith('vendor/') ? vendorFile(file) : join(source, file), 'utf8')
  const code = extname(file) === '.ts' ? stripTypeScriptTypes(written).replace(/^\s+$/gm, '') : written
  const found: string[] = []
  const text = code.replace(importPattern, (_, before: string, quote: string, target: string) => {
    const to = targetOf(file, target)
    found.push(to)
    const path = posix.relative(posix.dirname(served), servedPath(to))
    return `${before}${quote}${path.startsWith('.') ? path : `./${path}`}${quote}`
  })
  texts.set(served, text.replace(/^\/\/# sourceMappingURL=.*$/m, ''))
  for (const one of found) await gather(one, texts)
}

/** Where an import leads: a file of ours below `src`, or a package's module below `vendor`. */
function targetOf(file: string, target: string): string {
  if (!target.startsWith('.')) return `vendor/${target}`
  const to = relative(source, join(dirname(join(source, file)), target)).replaceAll('\\', '/')
  if (!servedFolders.test(to))
    throw new Error(`the dashboard's ${file} imports ${target}, which is not for browsers`)
  return to
}

function servedPath(file: string): string {
  return file.startsWith('vendor/') ? `${file}.js` : file.replace(/\.ts$/, '.js')
}

function vendorFile(file: string): string {
  return fileURLToPath(import.meta.resolve(file.slice('vendor/'.length)))
}

async function packed(path: string, text: string): Promise<WebAsset> {
  const bytes = Buffer.from(text)
  const [brotli, zipped] = await Promise.all([
    promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }),
    promisify(gzip)(bytes, { level: 9 }),
  ])
  const type = path.endsWith('.css') ? 'text/css; charset=utf-8' : 'text/javascript; charset=utf-8'
  return { type, bytes, brotli, gzip: zipped }
}
