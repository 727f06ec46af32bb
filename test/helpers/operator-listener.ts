import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import { pino } from 'pino'
import type { Test } from 'tap'
import { createOperator, roleGrants } from '../../src/fleet/operators.ts'
import { buildOperatorListener, type OperatorListenerOptions } from '../../src/http/operator-listener.ts'
import type { MetricsAnswers } from '../../src/http/routes/operator-metrics.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'
import { openProcessMetrics } from '../../src/metrics/counts.ts'
import { openMetrics } from '../../src/open-metrics.ts'
import { openCheckpointSigner } from '../../src/pki/checkpoint-key.ts'
import type { Role } from '../../src/storage/tables.ts'
import { checkConforms } from './conforms.ts'
import { testIssuer } from './signing.ts'
import { servedTemplates, type World, type WorldOptions } from './world.ts'

const limits = {
  maxBodyBytes: 65_536,
  requestTimeoutSeconds: 30,
  uploadTimeoutSeconds: 3600,
  idleTimeoutSeconds: 15,
  maxConnections: 100,
}
/** Every role there is. */
export const roles = Object.keys(roleGrants) as Role[] // the table's own keys

/** An operator listener that is asked without a network, with a token of each role. */
export interface Listener {
  readonly world: World
  readonly app: FastifyInstance
  readonly tokens: Readonly<Record<Role, string>>
  readonly logged: string[]
  /** Sends a request, as `role` where one is given. */
  send(
    role: Role | undefined,
    method: string,
    url: string,
    payload?: unknown,
  ): Promise<LightMyRequestResponse>
}

type Open = (options?: WorldOptions) => Promise<World>

/** Opens one over a world of its own, with tokens; it closes with the test. */
export async function listen(
  t: Test,
  openWorld: Open,
  options: Partial<OperatorListenerOptions> = {},
): Promise<Listener> {
  const world = await openWorld({ templates: servedTemplates() })
  const { app, logged } = await listenOver(t, world, options)
  const tokens = {} as Record<Role, string>
  for (const role of roles)
    tokens[role] = await createOperator(world.context, { name: `the-${role}`, role, expiresAt: null })
  return {
    world,
    app,
    tokens,
    logged,
    send: (role, method, url, payload) => send(app, role && tokens[role], method, url, payload),
  }
}

/** Opens a listener over a world that is there; it closes with the test. */
export async function listenOver(
  t: Test,
  world: World,
  options: Partial<OperatorListenerOptions> = {},
): Promise<{ app: FastifyInstance; logged: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-store-'))
  mkdirSync(join(folder, 'pki'))
  const logged: string[] = []
  const into = new Writable({
    write: (chunk, _encoding, done) => {
      logged.push(String(chunk))
      done()
    },
  })
  const app = buildOperatorListener(world.context, {
    tls: {},
    log: pino({ level: 'info' }, into),
    limits,
    artifacts: await openArtifactStore(folder),
    issueCodeSigning: testIssuer,
    metrics: testMetrics(t, world),
    checkpoints: openCheckpointSigner(folder),
    ...options,
  })
  t.teardown(async () => {
    await app.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return { app, logged }
}

/** What `/metrics` of a listener in a test answers: of its own world. */
function testMetrics(t: Test, { context }: World): MetricsAnswers {
  const own = openProcessMetrics()
  t.teardown(() => own.close())
  const config = { dataDir: tmpdir(), metricsNodes: 1000 }
  return openMetrics({ config, context, own, certificates: () => [] })
}

/** Sends a request with a token, or none. What comes back is what the OpenAPI document says, or this throws. */
export async function send(
  app: FastifyInstance,
  token: string | undefined,
  method: string,
  url: string,
  payload?: unknown,
  more: Readonly<Record<string, string>> = {},
): Promise<LightMyRequestResponse> {
  const headers = { ...more, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) }
  const body = payload === undefined ? {} : { payload: payload as object }
  const path = url.startsWith('/') ? url : `/api/v1/${url}`
  const answer = await app.inject({ method: method as 'GET', url: path, headers, ...body } as InjectOptions)
  checkConforms(app, method, path, answer)
  return answer
}
