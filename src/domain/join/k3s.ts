import { agentFault, agentSettings, agentVariables } from './agent.ts'
import type { JoinKind } from './kind.ts'

/** Joins a cluster of k3s as an agent. */
export const k3s: JoinKind<typeof agentSettings> = {
  settings: agentSettings,
  secretSettings: ['token'],
  template: 'join-k3s.sh',
  variables: agentVariables,
  credential: () => 'static',
  fault: agentFault,
}
