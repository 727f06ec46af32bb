import type { Join } from '../domain/join.ts'
import type { Broker } from './broker.ts'
import { type KubeadmOptions, kubeadmBroker } from './kubeadm.ts'

/** Settings of any kind: each broker gets those of its own. */
type AnySettings = NonNullable<Join['settings']>

/** Finds who makes the credentials of a kind; undefined where nobody does. */
export type FindBroker = (kind: string) => Broker<AnySettings> | undefined

/** The brokers, by the kind of join that they are for. */
export function openBrokers(options: KubeadmOptions): FindBroker {
  const byKind = new Map<string, Broker<AnySettings>>()
  // A broker is found by the kind of a join, whose settings are then of its own type.
  byKind.set('kubeadm', kubeadmBroker(options) as unknown as Broker<AnySettings>)
  return (kind) => byKind.get(kind)
}
