import { once } from 'node:events'
import { connect as connectPlain } from 'node:net'
import { connect } from 'node:tls'
import { reasonOf } from '../outgoing/answer.ts'
import {
  hostOf,
  NotAllowed,
  type OutgoingRules,
  type OutgoingTarget,
  openAddresses,
  portOf,
  tlsOf,
  unless,
} from '../outgoing/target.ts'

/** How a service is, as far as a handshake tells: nothing is asked of it. */
export type Probe =
  | { readonly kind: 'reached'; readonly address: string; readonly certificateUntil: Date | undefined }
  | { readonly kind: 'failed'; readonly reason: string }

/** Looks up a service, connects to it and shakes hands. Never rejects. */
export async function probeService(
  { url, ca, client }: OutgoingTarget,
  rules: OutgoingRules,
  timeoutMilliseconds: number,
): Promise<Probe> {
  const cut = AbortSignal.timeout(timeoutMilliseconds)
  try {
    const [address = ''] = await unless(cut, openAddresses(url, rules))
    const to = { host: address, port: portOf(url) }
    if (url.protocol === 'http:') {
      const socket = connectPlain(to)
      await once(socket, 'connect', { signal: cut }).finally(() => socket.destroy())
      return { kind: 'reached', address, certificateUntil: undefined }
    }
    const socket = connect({ ...to, ...tlsOf(hostOf(url), ca, client) })
    try {
      await once(socket, 'secureConnect', { signal: cut })
      return { kind: 'reached', address, certificateUntil: new Date(socket.getPeerCertificate().valid_to) }
    } finally {
      socket.destroy()
    }
  } catch (error) {
    if (cut.aborted) return { kind: 'failed', reason: 'no answer in time' }
    const reason = error instanceof NotAllowed ? error.message : reasonOf(error, 'the CA of the extension')
    return { kind: 'failed', reason }
  }
}
