import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { request } from 'node:https'

/**
 * A stand-in for M-Lab's `epoxy_client`, which is a Go program that Debian does not package. It does on the wire what that
 * one does (as of 2024): the action is a POST with an empty form body; chains and files are asked by HEAD first, then by a GET with
 * `Range: bytes=0-` where the HEAD offered ranges; `v1` of a chain replaces `v1` whole; templates of vars, files, env and commands are filled in;
 * it reports, and after a failure waits 60 s and POSTs the same URL again, for six hours at most. A report that fails is not sent again.
 */
export interface EpoxyClientOptions {
  readonly ca: string
  /** The kernel arguments that the stage before handed over, or the medium. */
  readonly kargs: Readonly<Record<string, string>>
  /** Where it asks from; several machines of one test have addresses of their own. */
  readonly localAddress?: string
  /** Runs a command. `gone`: it was a kexec, which never returns, so that nothing is reported. */
  readonly command?: (
    argv: readonly string[],
    files: EpoxyFiles,
  ) => Promise<'gone' | undefined> | 'gone' | undefined
  /** What is lost on its way: the request, or the answer to it. */
  readonly lose?: (step: EpoxyStep) => 'request' | 'answer' | undefined
}

/** The files of a stage's document, by their names there. */
export type EpoxyFiles = Readonly<Record<string, Buffer>>

/** A request as the client makes it. */
export interface EpoxyStep {
  readonly method: string
  /** The last part of the path: `stage2`, `report`, `stage2to3.json`. */
  readonly name: string
  readonly message?: string
}

/** What a run of the client came to. */
export interface EpoxyRun {
  readonly outcome: 'gone' | 'success' | 'gave-up'
  readonly attempts: number
  /** What it said, and what was answered; 0 where nothing was. */
  readonly reports: readonly { readonly message: string; readonly status: number }[]
  /** Its kernel arguments at the end: with those of stage 1 where it adds them. */
  readonly kargs: Readonly<Record<string, string>>
}

interface V1 {
  chain?: string
  vars?: Record<string, string | string[]>
  files?: Record<string, { url: string; sha256?: string; name?: string }>
  env?: Record<string, string>
  commands?: (string | string[])[]
}

/** `epoxy_client -action epoxy.STAGE`: until it succeeds, is replaced by the next kernel, or gives up. */
export async function runEpoxyClient(
  options: EpoxyClientOptions & {
    readonly action: 'stage1' | 'stage2' | 'stage3'
    /** Waits; the real one sleeps for 60 s. */
    readonly wait: (seconds: number) => Promise<void> | void
    /** `-no-retry`: one attempt. */
    readonly noRetry?: boolean
    /** The real one goes on for six hours. */
    readonly giveUpAfterSeconds?: number
  },
): Promise<EpoxyRun> {
  const kargs = { ...options.kargs }
  const reports: EpoxyRun['reports'][number][] = []
  for (let attempts = 1, waited = 0; ; attempts++, waited += 60) {
    const once = await attempt({ ...options, kargs }, options.action, kargs)
    if (once.outcome === 'gone') return { outcome: 'gone', attempts, reports, kargs }
    reports.push({ message: once.message, status: once.reported })
    if (once.message === 'success') return { outcome: 'success', attempts, reports, kargs }
    const over = options.noRetry === true || waited >= (options.giveUpAfterSeconds ?? 6 * 3600)
    if (over) return { outcome: 'gave-up', attempts, reports, kargs }
    await options.wait(60)
  }
}

/** The same with `-no-retry`, and all commands of a document handed over at once. */
export async function runEpoxyStage(
  options: EpoxyClientOptions & {
    readonly stage: 'stage2' | 'stage3'
    readonly run: (stage: string, document: Record<string, unknown>) => Promise<void> | void
  },
): Promise<{ reported: number; message: string }> {
  const { message, reported } = await attempt(options, options.stage, undefined, async (v1) => {
    await options.run(options.stage, { v1 })
    return undefined
  })
  return { message, reported }
}

async function attempt(
  options: EpoxyClientOptions,
  action: string,
  added: Record<string, string> | undefined,
  work: (v1: V1) => Promise<'gone' | undefined> = (v1) => runCommands(options, v1),
): Promise<{ outcome: 'gone' | 'reported'; message: string; reported: number }> {
  let message = 'success'
  let v1: V1 = {}
  try {
    v1 = await load(options, action, added)
    if ((await work(v1)) === 'gone') return { outcome: 'gone', message: '', reported: 0 }
  } catch (error) {
    message = `error: ${error instanceof Error ? error.message : String(error)}`
  }
  // The whole evaluated configuration, every session URL with it.
  const config = JSON.stringify({ kargs: options.kargs, v1 }, null, 4)
  const body = new URLSearchParams({ 'debug.config': config, message })
  const url = options.kargs['epoxy.report']
  // What goes wrong with a report is logged by the real one, and no more.
  const reported =
    url === undefined ? undefined : await post(options, url, body.toString()).catch(() => undefined)
  return { outcome: 'reported', message, reported: reported?.status ?? 0 }
}

/** The action's document, with chains followed; kernel arguments in it count at stage 1 only, and replace none. */
async function load(
  options: EpoxyClientOptions,
  action: string,
  added: Record<string, string> | undefined,
): Promise<V1> {
  const url = options.kargs[`epoxy.${action}`]
  if (url === undefined) throw new Error('Action URL key not found')
  const answer = await post(options, url, '')
  if (answer.status < 200 || answer.status > 299)
    throw new Error(`Bad status code: got ${answer.status}, expected 200 code`)
  let document = JSON.parse(String(answer.body)) as { kargs?: Record<string, string>; v1: V1 }
  if (action === 'stage1' && added !== undefined) Object.assign(added, { ...document.kargs, ...added })
  while (document.v1.chain !== undefined) {
    document = JSON.parse(String(await download(options, document.v1.chain))) as typeof document
  }
  return document.v1
}

async function runCommands(options: EpoxyClientOptions, v1: V1): Promise<'gone' | undefined> {
  const fill = (text: string): string =>
    text.replace(
      /\{\{\s*(?:kargs `([^`]*)`|\.vars\.(\w+)|\.files\.(\w+)\.name)\s*\}\}/g,
      (_all, karg, name, file) =>
        karg !== undefined
          ? (options.kargs[karg] ?? '')
          : name !== undefined
            ? String(v1.vars?.[name] ?? '')
            : (v1.files?.[file]?.name ?? ''),
    )
  for (const [name, value] of Object.entries(v1.vars ?? {}))
    v1.vars = { ...v1.vars, [name]: fill([value].flat().join(' ')) }
  const files: Record<string, Buffer> = {}
  for (const [name, file] of Object.entries(v1.files ?? {})) {
    file.url = fill(file.url)
    const bytes = await download(options, file.url)
    const digest = createHash('sha256').update(bytes).digest('hex')
    if (file.sha256 !== undefined && file.sha256 !== digest)
      throw new Error(`sha256 of ${name} is ${digest}, and ${file.sha256} was expected`)
    file.name = `/tmp/${name}`
    files[file.name] = bytes
  }
  v1.commands = (v1.commands ?? []).map((one) => (Array.isArray(one) ? one : fill(one).split(' ')).map(fill))
  for (const argv of v1.commands as string[][]) {
    if (argv.length === 0 || argv[0]?.startsWith('#') === true) continue
    if ((await options.command?.(argv, files)) === 'gone') return 'gone'
  }
  return undefined
}

async function download(options: EpoxyClientOptions, url: string): Promise<Buffer> {
  const head = await ask(options, 'HEAD', url)
  if (head.status !== 200) throw new Error(`HEAD answered ${head.status}`)
  const ranges = head.headers['accept-ranges'] === 'bytes'
  const got = await ask(options, 'GET', url, ranges ? { range: 'bytes=0-' } : {})
  if (got.status !== 200 && got.status !== 206) throw new Error(`GET answered ${got.status}`)
  return got.body
}

function post(options: EpoxyClientOptions, url: string, body: string): Promise<EpoxyAnswer> {
  return ask(options, 'POST', url, { 'content-type': 'application/x-www-form-urlencoded' }, body)
}

interface EpoxyAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

/** One request on a connection of its own; as commands of a stage make them, too (`curl --data-binary`). */
export function ask(
  { ca, localAddress, lose }: Pick<EpoxyClientOptions, 'ca' | 'localAddress' | 'lose'>,
  method: string,
  url: string,
  headers: Record<string, string> = {},
  body = '',
): Promise<EpoxyAnswer> {
  const name = new URL(url).pathname.split('/').at(-1) ?? ''
  const message = new URLSearchParams(body).get('message')
  const lost = lose?.({ method, name, ...(message === null ? {} : { message }) })
  if (lost === 'request') return Promise.reject(new Error('connection reset before it was sent'))
  return new Promise((resolve, reject) => {
    const options = {
      method,
      ca,
      headers,
      agent: false,
      timeout: 60_000,
      ...(localAddress && { localAddress }),
    }
    const asked = request(url, options, (response) => {
      // The server has answered, and so has done what was asked; the bytes come no further.
      if (lost === 'answer') {
        reject(new Error('connection reset before the answer'))
        asked.destroy()
        return
      }
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
      )
    })
    asked.on('timeout', () => asked.destroy(new Error('no answer')))
    asked.on('error', reject)
    asked.end(body)
  })
}
