import { setTimeout as pause } from 'node:timers/promises'
import type { Architecture } from '../../domain/architecture.ts'
import type { ImageRef, Manifest } from '../../domain/image.ts'
import { formatImageRef } from '../../domain/image.ts'
import type { IssuedSecret, NodeView, Timeline } from '../answers.ts'
import type { Api } from '../api.ts'
import { type Machine, type MachineEnd, startMachine } from './machine.ts'
import { consoleLimits } from './serial-console.ts'

/** A test boot to make. */
export interface TestBoot {
  readonly stage2: ImageRef
  readonly stage3: ImageRef
  readonly manifests: readonly Manifest[]
  readonly architecture: Architecture
  /** iPXE, an .efi file. */
  readonly ipxe: string
  /** The root that the machine's firmware trusts, PEM. */
  readonly ca: string
  /** More kernel arguments. */
  readonly kernelArguments: string
  readonly memoryMiB: number | undefined
  readonly timeoutSeconds: number
  /** Called with each line of the console that the boot itself says. */
  readonly onLine: (line: string) => void
}

/** How it went. */
export interface TestBootResult {
  readonly passed: boolean
  /** What went wrong, in words; null where nothing did. */
  readonly failure: string | null
  readonly seconds: number
  readonly stages: readonly { readonly stage: string; readonly seconds: number }[]
  /** The console's last lines. */
  readonly console: readonly string[]
}

const node = 'test'
/** What Linux calls the machine's serial line. */
const serialLines: Readonly<Record<Architecture, string>> = { x86_64: 'ttyS0', arm64: 'ttyAMA0' }
const pollMilliseconds = 500
/** What the server takes; a report's message has 2048 at most. */
const maxFailureCharacters = 2500
const maxLineCharacters = 4096

/** Boots an emulated machine through the whole chain of a scratch server: stock iPXE, both images, join, report. */
export async function testBoot(api: Api, boot: TestBoot): Promise<TestBootResult> {
  await api.put('/profiles/test', {
    name: 'test',
    acceptUnsigned: true,
    kernelArguments:
      `console=${serialLines[boot.architecture]} pawl.reboot_delay=2 ${boot.kernelArguments}`.trim(),
    boot: { stage2: formatImageRef(boot.stage2), stage3: formatImageRef(boot.stage3) },
  })
  await api.post('/nodes', { name: node, profile: 'test' })
  const { siteScript } = await api.post<IssuedSecret>(`/nodes/${node}/secret`)
  const machine = await startMachine({
    name: node,
    architecture: boot.architecture,
    ipxe: boot.ipxe,
    caCert: boot.ca,
    autoexec: siteScript,
    mac: '52:54:00:70:61:77',
    uuid: '70617770-6177-4770-8177-706177706177',
    serial: 'PAWL-TEST',
    memoryMiB: boot.memoryMiB ?? memoryFor(boot.manifests),
    timeoutSeconds: boot.timeoutSeconds,
  })
  try {
    const failure = await watch(api, machine, boot)
    const { session, stages } = await api.get<Timeline>(`/nodes/${node}/timeline`)
    return {
      passed: failure === null,
      failure: failure?.slice(0, maxFailureCharacters) ?? null,
      seconds: session === null ? 0 : secondsOf(session.startedAt, session.endedAt ?? session.lastSeenAt),
      stages: stages.map(({ stage, seconds }) => ({ stage, seconds })),
      console: lastLines(machine),
    }
  } finally {
    await machine.powerOff()
  }
}

/** Null when the node is ready, else what went wrong. */
async function watch(
  api: Api,
  machine: Machine,
  { timeoutSeconds, onLine }: TestBoot,
): Promise<string | null> {
  let ended: string | undefined
  const causes: Partial<Record<MachineEnd, string>> = {
    timeout: `it was not ready after ${timeoutSeconds} s`,
    flooded: `it printed more than ${consoleLimits.fileBytes / 2 ** 20} MiB`,
  }
  machine.exited.then(
    (how) => {
      ended = causes[how] ?? 'the machine ended by itself'
    },
    (error: Error) => {
      ended = error.message
    },
  )
  let [shown, begun] = [0, '']
  for (;;) {
    const last = ended // read before the server is asked: a report that came first counts
    const { text, position } = machine.printedSince(shown)
    const lines = (begun + text).split('\n')
    begun = (lines.pop() ?? '').slice(0, maxLineCharacters)
    for (const line of lines) if (/^(Pawl|pawl): /.test(line)) onLine(line.slice(0, maxLineCharacters))
    shown = position
    const { state, session } = await api.get<NodeView>(`/nodes/${node}`)
    if (state === 'ready') return null
    if (state === 'failed') return session?.cause ?? 'the boot failed'
    if (last !== undefined) return last
    await pause(pollMilliseconds)
  }
}

/** What the larger of both images says it needs, and some for the firmware; at least what the small ones need. */
function memoryFor(manifests: readonly Manifest[]): number {
  return Math.max(1024, ...manifests.map(({ minMemoryMiB = 0 }) => Math.ceil(minMemoryMiB * 1.25)))
}

function lastLines(machine: Machine): string[] {
  return machine
    .console()
    .split('\n')
    .filter((line) => line.trim() !== '')
    .slice(-40)
    .map((line) => line.replace(/[^ -~]/g, '?').slice(0, 200))
}

function secondsOf(from: string, to: string): number {
  return Math.round((Date.parse(to) - Date.parse(from)) / 100) / 10
}
