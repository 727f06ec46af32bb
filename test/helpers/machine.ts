import type { PresentedCertificate } from '../../src/boot/certificate.ts'
import { type RedeemedStage, redeem } from '../../src/boot/redeem.ts'
import { type Report, takeReport } from '../../src/boot/report.ts'
import { serveHandover } from '../../src/boot/serve-handover.ts'
import { serveStage1 } from '../../src/boot/serve-stage1.ts'
import type { Asking } from '../../src/boot/work.ts'
import type { World } from './world.ts'

/** A machine that boots by calling the boot story directly: what iPXE and the agents would send, without the network. */
export interface Machine {
  readonly host: string
  readonly source: string
  /** Facts and secret, as its site script would send them. */
  readonly fields: Readonly<Record<string, unknown>>
  /** What its connection shows. */
  readonly certificate?: PresentedCertificate | undefined
}

/** What a machine has learnt; each step adds to it. */
export interface Learnt {
  session: string
  handoverToken: string
  capability: string
  stage2: string
  stage3: string
  join: string
  report: string
  script: string
}

export const facts = {
  uuid: '11111111-2222-3333-4444-555555555555',
  mac: '52-54-00-12-34-56',
  serial: 'SN1',
  platform: 'efi',
}

/** A machine as `node1`, with its secret. */
export function machineOf(secret: string, wish: Partial<Machine> = {}): Machine {
  return { host: 'node1', source: '192.0.2.10', fields: { ...facts, secret }, ...wish }
}

/** Asks stage 1; the plain templates render to their values, so what the script holds can be read back. */
export async function askStage1(
  world: World,
  machine: Machine,
): Promise<Partial<Learnt> & { template: string; values: Record<string, unknown> }> {
  const answer = await serveStage1(world.context, {
    ...asking(machine, 'stage1.ipxe'),
    fields: machine.fields,
    format: 'ipxe',
  })
  const [template = '', ...rest] = (answer?.body ?? '').trim().split(' ')
  const values = JSON.parse(rest.join(' ')) as Record<string, unknown>
  return {
    template,
    values,
    session: values.session as string,
    handoverToken: values.handoverToken as string,
    capability: values.capability as string,
  }
}

/** Opens the handover. */
export async function askHandover(
  world: World,
  machine: Machine,
  token: string | undefined,
): Promise<{ stage2: string; report: string; document: Record<string, unknown> }> {
  const document = JSON.parse(await serveHandover(world.context, { ...asking(machine, 'handover'), token }))
  return { ...document.tokens, document }
}

/** Redeems a stage's token. */
export async function askStage(
  world: World,
  machine: Machine,
  stage: RedeemedStage,
  token: string | undefined,
  key?: string,
): Promise<{ text: string; document: Record<string, unknown>; token: string }> {
  const text = await redeem(world.context, { ...asking(machine, stage), stage, token, key })
  const document = JSON.parse(text)
  const tokens = document.handover?.tokens ?? document.tokens ?? {}
  return { text, document, token: tokens.stage3 ?? tokens.join ?? '' }
}

/** Sends a report. */
export function report(
  world: World,
  machine: Machine,
  token: string | undefined,
  message: string,
  more: Partial<Pick<Report, 'key' | 'final' | 'sshHostKeys' | 'wireguardPublicKey'>> = {},
): Promise<void> {
  return takeReport(world.context, {
    ...asking(machine, 'report'),
    token,
    message,
    key: more.key,
    final: more.final ?? false,
    ...(more.sshHostKeys === undefined ? {} : { sshHostKeys: more.sshHostKeys }),
    ...(more.wireguardPublicKey === undefined ? {} : { wireguardPublicKey: more.wireguardPublicKey }),
  })
}

/** How far a machine goes. */
export type Until = 'stage1' | 'handover' | 'stage2' | 'stage3' | 'join' | 'ready'

/** Boots a machine up to and including a step; returns all it has learnt. */
export async function boot(world: World, machine: Machine, until: Until = 'ready'): Promise<Learnt> {
  const learnt: Learnt = {
    session: '',
    handoverToken: '',
    capability: '',
    stage2: '',
    stage3: '',
    join: '',
    report: '',
    script: '',
  }
  Object.assign(learnt, await askStage1(world, machine))
  if (until === 'stage1') return learnt
  Object.assign(learnt, await askHandover(world, machine, learnt.handoverToken))
  if (until === 'handover') return learnt
  const second = await askStage(world, machine, 'stage2', learnt.stage2)
  learnt.stage3 = second.token
  learnt.capability = second.document.capability as string
  if (until === 'stage2') return learnt
  learnt.join = (await askStage(world, machine, 'stage3', learnt.stage3)).token
  if (until === 'stage3') return learnt
  learnt.script = (await askStage(world, machine, 'join', learnt.join)).document.script as string
  if (until === 'ready') await report(world, machine, learnt.report, 'success')
  return learnt
}

function asking({ host, source, certificate }: Machine, request: string): Asking & { host: string } {
  return { host, source, request, certificate }
}
