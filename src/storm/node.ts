import { reportFailure, runAgents } from './agent.ts'
import { Connections, type Personas } from './connections.ts'
import { type Handover, runFirmware } from './firmware.ts'
import type { HandshakeRoom } from './handshake-room.ts'
import { type CrewPlan, type NodeResult, type SimulatedNode, type Step, stepNames } from './plan.ts'
import { type Client, Failed } from './requests.ts'
import type { Tally } from './tally.ts'
import { Ended, wait } from './waits.ts'

/** What the nodes of a process share. */
export interface Crew {
  readonly plan: CrewPlan
  readonly personas: Personas
  readonly room: HandshakeRoom
  readonly tally: Tally
  /** Aborted with an `Ended` when the storm is over. */
  readonly stop: AbortSignal
}

/** The agents' pause before they reboot (images/lib/agent.sh). */
const rebootSeconds = 60
/** The power goes within so many milliseconds after a step has begun: mostly in the middle of it. */
const powerCutMilliseconds = 20

/** Boots one node until it has reported success, or the storm is over. Never throws what a node can meet. */
export async function bootNode(crew: Crew, node: SimulatedNode): Promise<NodeResult> {
  const { tally, plan } = crew
  const life = new Life(crew, node)
  let begun = performance.now()
  let cause: string | undefined
  try {
    await wait(node.arrivesAt, crew.stop)
    begun = performance.now()
    tally.begin()
    const cycles = Math.random() * 100 < plan.behaviour.powerCycles ? 1 : 0
    await life.live(cycles)
  } catch (error) {
    if (!(error instanceof Ended)) throw error
    cause = `the storm ended while it was at ${life.step}`
  }
  const milliseconds = performance.now() - begun
  if (cause === undefined) tally.time('boot', milliseconds)
  return {
    name: node.name,
    ready: cause === undefined,
    session: cause === undefined ? life.session : undefined,
    sessions: life.sessions(),
    seconds: Math.round(milliseconds) / 1000,
    cause,
  }
}

/** One node from power-on to the report, through as many power cycles as it takes. */
class Life {
  readonly #crew: Crew
  readonly #node: SimulatedNode
  readonly #sessions = new Map<string, Step[]>()
  step: Step | 'power-on' = 'power-on'
  session: string | undefined

  constructor(crew: Crew, node: SimulatedNode) {
    this.#crew = crew
    this.#node = node
  }

  /** `powerCuts`: how often its power goes. */
  async live(powerCuts: number): Promise<void> {
    const { tally, stop, plan } = this.#crew
    for (let cuts = powerCuts; ; ) {
      try {
        return await this.#cycle(cuts > 0 ? anyStep() : undefined)
      } catch (error) {
        if (error instanceof Ended && error.why === 'power') {
          cuts -= 1
          tally.powerCycle()
        } else if (error instanceof Failed) {
          tally.retry()
          await wait(rebootSeconds / plan.behaviour.hurry, stop)
        } else throw error
      }
    }
  }

  sessions(): NodeResult['sessions'] {
    return [...this.#sessions].map(([session, steps]) => ({ session, steps }))
  }

  async #cycle(cutAt: Step | undefined): Promise<void> {
    const { plan, personas, room, tally, stop } = this.#crew
    const power = new AbortController()
    const connections = new Connections({
      target: plan.target,
      personas,
      room,
      address: this.#node.address,
      resumes: resumes(plan, this.#node),
      onHandshake: (handshake) => tally.handshake(handshake),
    })
    const off = (reason: unknown): void => {
      power.abort(reason)
      connections.cut()
    }
    const onStop = (): void => off(stop.reason)
    stop.addEventListener('abort', onStop, { once: true })
    const at = (step: Step): void => {
      this.step = step
      if (step === cutAt)
        setTimeout(() => off(new Ended('power')), Math.random() * powerCutMilliseconds).unref()
    }
    const client: Client = {
      connections,
      tally,
      behaviour: plan.behaviour,
      name: hostHeaderOf(plan),
      signal: power.signal,
    }
    try {
      if (stop.aborted) throw stop.reason
      await this.#boot(client, at)
    } finally {
      stop.removeEventListener('abort', onStop)
      connections.leaveFirmware()
    }
  }

  async #boot(client: Client, at: (step: Step) => void): Promise<void> {
    const { digests } = this.#crew.plan
    const booting = { node: this.#node, digests: digests.stage2 }
    const handover = await runFirmware(client, booting, {
      at,
      opened: (session) => this.#acknowledge(session, 'stage1'),
      handedOver: (session) => this.#acknowledge(session, 'handover'),
    })
    const acknowledged = (step: Step): void => this.#acknowledge(handover.session, step)
    try {
      await runAgents(client, handover, digests.stage3, { at, acknowledged })
      this.session = handover.session
    } catch (error) {
      await this.#giveUp(client, handover, error)
      throw error
    }
  }

  async #giveUp(client: Client, handover: Handover, error: unknown): Promise<void> {
    if (error instanceof Failed) await reportFailure(client, handover, error)
  }

  #acknowledge(session: string, step: Step): void {
    const steps = this.#sessions.get(session) ?? []
    this.#sessions.set(session, steps)
    if (!steps.includes(step)) steps.push(step)
  }
}

function resumes({ behaviour }: CrewPlan, { index }: SimulatedNode): boolean {
  return behaviour.resume === 'on' || (behaviour.resume === 'both' && index % 2 === 0)
}

function anyStep(): Step {
  const steps = stepNames.filter((step) => step !== 'ipxe-head')
  // An index below the length.
  return steps[Math.floor(Math.random() * steps.length)] as Step
}

function hostHeaderOf({ target: { name, port } }: CrewPlan): string {
  return `${name.includes(':') ? `[${name}]` : name}:${port}`
}
