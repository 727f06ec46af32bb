import type { Test } from 'tap'
import { issueIdentity } from '../../src/boot/identity.ts'
import { registerKey } from '../../src/boot/identity-key.ts'
import { Refusal, type RefusalCause } from '../../src/domain/refusal.ts'
import { demoProfile, storeDemoFleet, storeProfile } from './fleet.ts'
import { boot, type Learnt, machineOf, report } from './machine.ts'
import { nodeKey, type ProofWish, proofOf, type TestKey } from './node-key.ts'
import { type OpenWorld, testSettings, type World } from './world.ts'

export const vault = 'https://vault.example.test'
export const identityProfile = {
  ...demoProfile,
  identity: { audiences: [vault, 'cluster'], labels: ['rack'] },
}
export const base = { host: 'node1', source: '192.0.2.10' }

/** What a node asks. */
export function urlOf(path: 'identity' | 'identity/key', host = 'node1'): string {
  return `${testSettings.publicUrl}/v1/boot/${host}/${path}`
}

/** Registers a key as the agent does; `wish` is what is wrong with it. */
export async function register(
  world: World,
  key: TestKey,
  token: string | undefined,
  wish: Partial<ProofWish> & { host?: string } = {},
): Promise<Record<string, unknown>> {
  const { host = 'node1', ...more } = wish
  const url = urlOf('identity/key', host)
  const proof = await proofOf(key, {
    url,
    at: world.clock.now(),
    ...(token === undefined ? {} : { token }),
    ...more,
  })
  return JSON.parse(
    await registerKey(world.context, { ...base, host, request: 'identity/key', token, proof }),
  )
}

/** A document as it is given out. */
export interface Document {
  readonly token: string
  readonly audience: string
  readonly expiresAt: string
  readonly renewInSeconds: number
}

/** Asks for a document; `wish` is what is wrong with the proof, or the proof itself. */
export async function ask(
  world: World,
  key: TestKey,
  audience: string | undefined = vault,
  wish: Partial<ProofWish> & { host?: string; proof?: string | undefined } = {},
): Promise<Document> {
  const { host = 'node1', ...more } = wish
  const made = await proofOf(key, { url: urlOf('identity', host), at: world.clock.now(), ...more })
  const proof = 'proof' in wish ? wish.proof : made
  return JSON.parse(
    await issueIdentity(world.context, { ...base, host, request: 'identity', audience, proof }),
  )
}

/** Refused for this cause, and looking like every other refusal from outside. */
export async function refused(
  t: Test,
  work: Promise<unknown>,
  why: RefusalCause,
  what: string = why,
): Promise<Refusal> {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (!(error instanceof Refusal)) {
    t.fail(`${what} was not refused`, { error })
    return new Refusal('malformed')
  }
  t.equal(error.why, why, what)
  t.equal(error.message, 'refused')
  return error
}

/** A node that came to stage 3, with its report token. */
export async function atStage3(
  openWorld: OpenWorld,
): Promise<{ world: World; secret: string; report: string; session: string }> {
  const world = await openWorld()
  const secret = await storeDemoFleet(world)
  await storeProfile(world, identityProfile)
  await world.context.storage.db.updateTable('nodes').set({ labels: '{"rack":"r7","owner":"x"}' }).execute()
  const learnt = await boot(world, machineOf(secret), 'stage3')
  return { world, secret, ...learnt }
}

/** A node in service, with its key. */
export async function inService(
  openWorld: OpenWorld,
): Promise<{ world: World; secret: string; key: TestKey; learnt: Learnt }> {
  const { world, secret } = await atStage3(openWorld)
  world.clock.advance(60)
  const learnt = await boot(world, machineOf(secret), 'join')
  const key = await nodeKey()
  await register(world, key, learnt.report)
  await report(world, machineOf(secret), learnt.report, 'success')
  return { world, secret, key, learnt }
}
