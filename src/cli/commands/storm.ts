import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { PawlError } from '../../errors.ts'
import type { Behaviour, Resume } from '../../storm/plan.ts'
import type { StormOrder } from '../../storm/run.ts'
import type { Whoami } from '../answers.ts'
import type { Api } from '../api.ts'
import { dataFolderOf, parseUrl } from '../connection.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { untilInterrupted } from '../follow.ts'
import { count } from '../format.ts'
import { showStorm, stormView } from '../storm-view.ts'

interface Flags extends Behaviour {
  readonly nodes: number
  readonly arrival: number
  readonly imageMib: number
  readonly workers: number
  readonly think: number
  readonly giveUp: number
  readonly evidence: 'auto' | 'address' | 'secret'
  readonly bootUrl?: string
  readonly serverPid?: number
  readonly signKey?: string
  readonly signCert?: string
}

/** Adds `pawl storm` and `pawl storm clean`. */
export function addStormCommands(program: Command, context: Context): void {
  const storm = program
    .command('storm')
    .description(
      'Boots nodes that are not there, as many at once as you say, and tells what the server can carry. It makes nodes, a profile and images of its own, marked with the label pawl-storm, and removes them at the end; it touches nothing else. Their events stay. Needs the role admin.',
    )
  addRun(storm, context)
  addClean(storm, context)
}

function addRun(storm: Command, context: Context): void {
  const command = storm
    .command('run', { isDefault: true })
    .description(
      'Boot so many nodes. Exits 1 where one was not ready at the end, or the record does not fit.',
    )
    .requiredOption('--nodes <N>', 'how many nodes', whole(1, 50_000))
    .option('--arrival <SECONDS>', 'spread their power-on over so long, or at-once', parseArrival, 0)
    .option('--image-mib <M>', 'what each of them downloads in all (8)', whole(1, 16_384), 8)
    .option('--workers <P>', 'client processes (1)', whole(1, 64), 1)
    .addOption(choice('--resume <HOW>', 'TLS sessions of iPXE resumed: on, off, or both by halves', resumes))
    .addOption(choice('--connections <HOW>', 'iPXE keeps one for 10 s, or each request has its own', ways))
    .addOption(choice('--certificate <KIND>', 'which certificate iPXE asks for', ['rsa', 'ecdsa']))
    .option('--cipher <SUITES>', "iPXE's suites in their place, by OpenSSL's names", parseCipher)
    .option('--pieces <N>', "ranges that iPXE's downloads are asked for in (1)", whole(1, 64), 1)
    .option('--think <SECONDS>', 'how long a kernel or system takes to start (5)', number(0, 600), 5)
    .option('--hurry <N>', "divide the clients' own waits by this (1)", number(1, 1000), 1)
    .option('--lose-answers <PERCENT>', 'of the redemptions: asked again under their key', number(0, 100), 0)
    .option('--power-cycles <PERCENT>', 'of the nodes: begin again at stage 1 once', number(0, 100), 0)
    .option('--cut-downloads <PERCENT>', "of the agents' downloads: go on after a cut", number(0, 100), 0)
    .option('--no-verify', 'do not compute the digests of what comes')
    .addOption(choice('--evidence <KIND>', 'auto: addresses on loopback, else secrets', evidences))
    .option('--boot-url <URL>', 'the boot listener, https://HOST:PORT; else where machines are sent')
    .option('--server-pid <PID>', 'the server on this machine; with --data it is known', whole(1, 2 ** 31))
    .option('--give-up <SECONDS>', 'nodes that are not ready by then are lost (1800)', whole(1, 86_400), 1800)
    .option('--sign-key <FILE>', "the publisher's key that signs the images")
    .option('--sign-cert <FILE>', 'its certificate')
    .action((flags: Flags) => withApi(context, (api) => run(context, api, flags)))
  withExamples(command, [
    'pawl storm --nodes 100 --data ./pawl-data',
    'pawl storm --nodes 1000 --arrival 60 --image-mib 200 --workers 2',
    'pawl storm --nodes 500 --connections each --resume off --json',
  ])
}

const resumes = ['on', 'off', 'both'] satisfies Resume[]
const ways = ['pool', 'each']
const evidences = ['auto', 'address', 'secret']

async function run(context: Context, api: Api, flags: Flags): Promise<void> {
  const { findSigner } = await import('../signing-key.ts')
  const { newStormId } = await import('../../storm/marks.ts')
  const { runStorm } = await import('../../storm/run.ts')
  await requireAdmin(api)
  const signer = await findSigner(context, api, flags)
  const folder = dataFolderOf(context.io.env, context.flags().data)
  const order: StormOrder = {
    id: newStormId(),
    nodes: flags.nodes,
    arrivalSeconds: flags.arrival,
    imageMib: flags.imageMib,
    processes: Math.min(flags.workers, flags.nodes),
    behaviour: behaviourOf(flags),
    aim: {
      bootUrl: flags.bootUrl === undefined ? undefined : parseUrl(flags.bootUrl, '--boot-url'),
      announced: announcedIn(folder).boot,
      evidence: flags.evidence,
    },
    giveUpSeconds: flags.giveUp,
    signer,
  }
  const { stop, done } = untilInterrupted(context)
  const view = stormView(context)
  try {
    const result = await runStorm(order, {
      api,
      env: context.io.env,
      serverProcess: () => flags.serverPid ?? announcedIn(folder).pid,
      stop,
      show: view,
    })
    view.end()
    answer(context, result, () => showStorm(context.output, result))
    if (stop.aborted) throw new PawlError('conflict', 'the storm was ended before its nodes were through')
    if (result.ok) return
    const lost = result.nodes - result.ready
    throw new PawlError(
      'conflict',
      lost > 0 ? `${lost} of ${count(result.nodes, 'node')} did not become ready` : 'the record does not fit',
      { hint: 'the answer has what failed, by kind' },
    )
  } finally {
    view.end()
    done()
  }
}

/** Publishing, registering and removing are of three roles; one token that has them all is an admin's. */
async function requireAdmin(api: Api): Promise<void> {
  const { name, role } = await api.get<Whoami>('/whoami')
  if (role === 'admin') return
  throw new PawlError('forbidden', `a storm needs the role admin; ${name} has ${role}`, {
    hint: 'pawl operator token create --name storm --role admin --expires 1d',
  })
}

function behaviourOf(flags: Flags): Behaviour {
  const { resume, connections, certificate, cipher, pieces, hurry, verify } = flags
  const { loseAnswers, powerCycles, cutDownloads } = flags
  return {
    ...{ resume, connections, certificate, cipher, pieces, hurry, verify },
    ...{ loseAnswers, powerCycles, cutDownloads },
    thinkSeconds: flags.think,
  }
}

/** What the server of the data folder wrote when it was ready; it may have been started again since. */
function announcedIn(folder: string | undefined): { boot?: string; pid?: number } {
  if (folder === undefined) return {}
  try {
    const { boot, pid } = JSON.parse(readFileSync(join(folder, 'server.json'), 'utf8'))
    return {
      ...(typeof boot === 'string' ? { boot } : {}),
      ...(Number.isInteger(pid) ? { pid } : {}),
    }
  } catch {
    return {}
  }
}

function addClean(storm: Command, context: Context): void {
  const command = storm
    .command('clean')
    .description(
      'Remove what a storm left that was killed: all that is marked, and nothing else. The plan is printed, and nothing done until --yes.',
    )
    .argument('[id]', 'one storm: the six characters in the names of its nodes; all of them without it')
    .option('--yes', 'do it')
    .action((id: string | undefined, { yes }: { yes?: true }) =>
      withApi(context, (api) => clean(context, api, id, yes === true)),
    )
  withExamples(command, ['pawl storm clean', 'pawl storm clean x7k2qa --yes'])
}

async function clean(context: Context, api: Api, id: string | undefined, yes: boolean): Promise<void> {
  const { parseStormId } = await import('../../storm/marks.ts')
  const { findRemains, mayRun, removeStorm } = await import('../../storm/cleanup.ts')
  const now = context.io.now()
  // Who names a storm knows that it has ended; who wants all of them gone may not know that a colleague's runs.
  const storms = (await findRemains(api, id === undefined ? undefined : parseStormId(id))).map((storm) => ({
    ...storm,
    kept: id === undefined && mayRun(storm, now),
  }))
  if (yes) for (const storm of storms) if (!storm.kept) await removeStorm(api, storm.id)
  answer(context, { storms, applied: yes }, () => {
    for (const { id, nodes, images, kept } of storms) {
      const what = `storm ${id}: ${count(nodes, 'node')}, ${count(images.length, 'image')}`
      context.output.line(kept ? `left ${what}` : `${yes ? 'removed' : 'would remove'} ${what}`)
      if (kept)
        context.output.note(
          `storm ${id} did something in the last ten minutes and may still run: if it does not, pawl storm clean ${id} --yes`,
        )
    }
    if (storms.length === 0) context.output.line('no storm has left anything')
    else if (!yes) context.output.note('nothing was done: add --yes to remove them')
  })
}

function choice(flag: string, meaning: string, words: readonly string[]): Option {
  return new Option(flag, meaning).choices(words).default(words[0])
}

function whole(least: number, most: number): (text: string) => number {
  return (text) => {
    if (/^\d{1,10}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text)
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`)
  }
}

function number(least: number, most: number): (text: string) => number {
  return (text) => {
    if (/^\d{1,6}(\.\d{1,3})?$/.test(text) && Number(text) >= least && Number(text) <= most)
      return Number(text)
    throw new InvalidArgumentError(`It must be a number from ${least} to ${most}.`)
  }
}

function parseArrival(text: string): number {
  return text === 'at-once' ? 0 : number(0, 86_400)(text)
}

function parseCipher(text: string): string {
  if (/^[A-Z0-9:_-]{3,500}$/.test(text)) return text
  throw new InvalidArgumentError("It must be names of suites as OpenSSL writes them, with ':' between.")
}
