import { agentFault, agentSettings, agentVariables } from './agent.ts'
import type { JoinKind } from './kind.ts'

/** Joins a cluster of RKE2 as an agent. */
export const rke2: JoinKind<typeof agentSettings> = {
  settings: agentSettings,
  secretSettings: ['token'],
  template: 'join-rke2.sh',
  variables: agentVariables,
  credential: () => 'static',
  fault: agentFault,
}
