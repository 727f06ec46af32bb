/**
 * `npm run demo`: a server in a temporary folder, and a real machine (under QEMU) that boots from stock iPXE over HTTPS to
 * `ready`. `-- --nodes N` boots N machines, `-- --keep` leaves the server running.
 */
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Machine } from '../../src/cli/image-test/machine.ts'
import { run } from './helpers/process.ts'
import { answersTook, type Site, startSite } from './helpers/site.ts'

const started = Date.now()
const pawl = join(import.meta.dirname, '../../bin/pawl')

function say(line: string): void {
  const seconds = ((Date.now() - started) / 1000).toFixed(1).padStart(6)
  process.stdout.write(`${seconds} s  ${line}\n`)
}

function readOptions(): { nodes: number; keep: boolean } {
  const { values } = parseArgs({
    options: { nodes: { type: 'string', default: '1' }, keep: { type: 'boolean', default: false } },
  })
  const nodes = Number(values.nodes)
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > 16)
    throw new Error(`--nodes ${values.nodes} is not a number from 1 to 16`)
  return { nodes, keep: values.keep }
}

/** Boots one machine to ready, telling its console line by line. */
async function bootOne(site: Site, name: string, alone: boolean): Promise<void> {
  const autoexec = await site.addNode(name)
  say(`${name}: registered; its site script carries its secret`)
  let machine: Machine | undefined
  let shown = 0
  const show = setInterval(() => {
    const lines = machine?.console().split('\n').slice(0, -1) ?? []
    for (const line of lines.slice(shown)) {
      if (/^(Pawl|pawl): /.test(line)) say(`${alone ? '' : `${name}  `}| ${line}`)
    }
    shown = lines.length
  }, 200)
  try {
    machine = await site.powerOn(name, autoexec, { timeoutSeconds: 700 })
    await machine.waitFor(/pawl: ready/, 600)
    await machine.exited
  } finally {
    clearInterval(show)
    await machine?.powerOff()
  }
}

async function bootAll(site: Site, nodes: number): Promise<void> {
  const waiting = Array.from({ length: nodes }, (_, i) => `node${i + 1}`)
  const worker = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift())
      await bootOne(site, name, nodes === 1)
  }
  // An emulated machine takes a core: more of them at once than cores would run into their time limits.
  await Promise.all(Array.from({ length: Math.min(nodes, availableParallelism()) }, worker))
}

async function showResults(site: Site, nodes: number): Promise<boolean> {
  let good = true
  for (let i = 1; i <= nodes; i++) {
    const { state } = (await site.pawl('node', 'show', `node${i}`)) as { state: string }
    good = good && state === 'ready'
    say(`node${i} is ${state}`)
    say(`node${i}: ${answersTook((await site.pawl('node', 'timeline', `node${i}`)).stages)}`)
    process.stdout.write(
      `\n$ pawl node timeline node${i}\n${await run(pawl, ['node', 'timeline', `node${i}`, '--data', site.dataDir])}\n`,
    )
  }
  process.stdout.write(
    `$ pawl event verify\n${await run(pawl, ['event', 'verify', '--data', site.dataDir])}\n`,
  )
  return good
}

async function main(): Promise<void> {
  const { nodes, keep } = readOptions()
  say('preparing: Debian packages, kernel, iPXE and two small images (cached after the first time)')
  const site = await startSite({ say })
  try {
    say('server ready: its own CA, two images published, profile "demo" applied')
    await bootAll(site, nodes)
    const good = await showResults(site, nodes)
    if (!good) throw new Error('not every node is ready')
    if (keep) await keepRunning(site)
  } finally {
    await site.stop()
  }
  say('done; everything is stopped and removed')
}

async function keepRunning(site: Site): Promise<void> {
  const { dataDir } = site
  process.stdout.write(
    `The server goes on. The dashboard is at ${site.operatorUrl()}/\n` +
      `  (its certificate is of this installation's own root: trust ${dataDir}/ca.crt, or let the browser go on)\n` +
      `Sign in with the operator token that this prints:\n  cat ${dataDir}/admin.token\n` +
      `Or by the command line:\n  bin/pawl node list --data ${dataDir}\n  bin/pawl event list --data ${dataDir}\n` +
      'Ctrl-C stops it and removes everything.\n',
  )
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
}

try {
  await main()
} catch (error) {
  process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
