import { send } from './robot.ts'

/**
 * A stand-in for M-Lab's `epoxy_client`, which is a Go program that Debian does not package. It does on the wire what that
 * one does (as of 2024): the action is a POST with an empty form body; a chain is asked by HEAD first, then by a GET with
 * `Range: bytes=0-`; `v1` of a chain replaces `v1` whole; on failure it reports and POSTs the same URL again.
 */
export interface EpoxyClientOptions {
  readonly ca: string
  /** Called for each command of a stage's document; the real one would run kexec or the setup script. */
  readonly run: (stage: string, document: Record<string, unknown>) => Promise<void> | void
  readonly stage: 'stage2' | 'stage3'
  /** The kernel arguments that the stage before handed over. */
  readonly kargs: Readonly<Record<string, string>>
}

const form = { 'content-type': 'application/x-www-form-urlencoded' }

/** Runs one stage: fetch, follow the chain, run, and report; the report is what the real one sends, `debug.config` included. */
export async function runEpoxyStage(
  options: EpoxyClientOptions,
): Promise<{ reported: number; message: string }> {
  const action = options.kargs[`epoxy.${options.stage}`] ?? ''
  const report = options.kargs['epoxy.report'] ?? ''
  let message = 'success'
  let config: unknown = {}
  try {
    config = await fetchConfig(options, action)
    await options.run(options.stage, config as Record<string, unknown>)
  } catch (error) {
    message = `error: ${error instanceof Error ? error.message : String(error)}`
  }
  const body = new URLSearchParams({
    message,
    'debug.config': JSON.stringify({ kargs: options.kargs, config }),
  })
  const { status } = await ask(options, 'POST', report, form, body.toString())
  return { reported: status, message }
}

async function fetchConfig(options: EpoxyClientOptions, url: string): Promise<Record<string, unknown>> {
  const answer = await ask(options, 'POST', url, form)
  if (answer.status < 200 || answer.status > 299) throw new Error(`POST answered ${answer.status}`)
  let document = JSON.parse(answer.text) as { v1?: { chain?: string } }
  for (let depth = 0; document.v1?.chain !== undefined && depth < 8; depth++) {
    const { chain } = document.v1
    const head = await ask(options, 'HEAD', chain)
    if (head.status !== 200) throw new Error(`HEAD of the chain answered ${head.status}`)
    const got = await ask(options, 'GET', chain, { range: 'bytes=0-' })
    if (got.status !== 206 && got.status !== 200) throw new Error(`GET of the chain answered ${got.status}`)
    document = JSON.parse(got.text) as typeof document
  }
  return document as Record<string, unknown>
}

function ask(
  options: EpoxyClientOptions,
  method: string,
  url: string,
  headers = {},
  body = '',
): ReturnType<typeof send> {
  const { port, pathname, search } = new URL(url)
  return send({ port: Number(port), ca: options.ca }, method, pathname + search, headers, body)
}
