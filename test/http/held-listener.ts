import { generateKeyPairSync } from 'node:crypto'
import pino from 'pino'
import type { Test } from 'tap'
import type { BootStory, StorySteps } from '../../src/boot/story.ts'
import { openTransfers } from '../../src/boot/transfers.ts'
import { PawlError } from '../../src/errors.ts'
import { buildBootListener } from '../../src/http/boot-listener.ts'
import { type Gate, type GateLimits, openGate } from '../../src/http/gate.ts'
import { openLargeBodies } from '../../src/http/large-bodies.ts'

export interface Listening {
  readonly app: ReturnType<typeof buildBootListener>
  readonly gate: Gate
  /** The steps that were asked, in that order. */
  readonly asked: string[]
  /** Lets the steps that were asked answer. */
  answer(): void
  /** Waits until so many steps were asked, in all. */
  until(steps: number): Promise<void>
}

/** What is not as usual. */
export interface ListenOptions {
  readonly trustedProxies?: string[]
  /** Stage 1 is answered so, at once. */
  readonly stage1?: Error
  /** A key with its certificate, where it listens on a port. */
  readonly tls?: Readonly<Record<string, unknown>>
  /** Room for large bodies, bytes. */
  readonly largeBodies?: number
  /** The store of artifacts answers nothing. */
  readonly storeStandsStill?: true
}

/** A listener before a story whose every step waits. */
export function listen(
  t: Test,
  limits: Partial<GateLimits>,
  {
    trustedProxies = ['127.0.0.1'],
    stage1,
    tls = { key: aKey() },
    largeBodies,
    storeStandsStill,
  }: ListenOptions = {},
): Listening {
  const asked: string[] = []
  let held: (() => void)[] = []
  let wake = (): void => {}
  const answers: Partial<Record<keyof StorySteps, unknown>> = {
    stage1: { format: 'ipxe', body: '#!ipxe\n' },
    redeem: '{}',
    report: undefined,
    handover: '{}',
    openDownload: {
      session: 's1',
      node: 'mlab1',
      stage: 'stage1',
      artifact: { role: 'kernel', digest: 'sha256:none', size: 1, mediaType: 'application/octet-stream' },
    },
    mayTransfer: true,
  }
  const steps = Object.keys(answers).map((step) => [
    step,
    () => {
      asked.push(step)
      wake()
      if (step === 'stage1' && stage1 !== undefined) return Promise.reject(stage1)
      return new Promise((resolve) => held.push(() => resolve(answers[step as keyof StorySteps])))
    },
  ])
  const story = {
    ...Object.fromEntries(steps),
    malformed: (_asking: unknown, reason: string) => {
      asked.push('malformed')
      wake()
      if (!reason.includes('too large')) return Promise.resolve()
      return new Promise((_resolve, reject) => held.push(() => reject(new Error('no'))))
    },
    handshakeFailed() {},
    transfers: openTransfers(),
    clock: () => new Date(),
  } as unknown as BootStory // all that these tests ask
  const acquire = (): Promise<never> =>
    storeStandsStill ? new Promise(() => {}) : Promise.reject(new PawlError('not-found', 'none'))
  // Its clock stands still: a new boot waits two seconds at most, which a slow machine may take for a few handshakes.
  const opened = openGate({ limits, random: () => 0.5, now: () => 0 })
  const gate =
    largeBodies === undefined ? opened : { ...opened, bodies: openLargeBodies({ total: largeBodies }) }
  const app = buildBootListener(story, {
    tls,
    log: pino({ level: 'silent' }),
    trustedProxies,
    artifacts: { acquire } as never, // all that is asked of it
    limits: { maxBodyBytes: 65_536, requestTimeoutSeconds: 15, idleTimeoutSeconds: 15, maxConnections: 100 },
    gate,
  })
  t.teardown(async () => {
    gate.close()
    await app.close()
  })
  return {
    app,
    gate,
    asked,
    answer() {
      const now = held
      held = []
      for (const one of now) one()
    },
    async until(count) {
      while (asked.length < count) await new Promise<void>((resolve) => (wake = resolve))
    },
  }
}

function aKey(): string | Buffer {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return privateKey.export({ type: 'pkcs8', format: 'pem' })
}
