import { processMetrics } from './process-table.ts'

/**
 * Every metric there is, once: the instruments are made from these tables, docs/metrics.md is generated from them, and the
 * tests hold alert rules and dashboard against them. A label's values are an enumeration of the source, except `machine`, which
 * ePoxy's alerts need: node names, at most as many as the setting `metricsNodes`.
 */
export interface Metric {
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  /** Each label with what its values are. */
  readonly labels?: Readonly<Record<string, string>>
  /** Upper bounds, of histograms. */
  readonly buckets?: readonly number[]
  /** How the processes of one server are put together; counters and histograms are added up. */
  readonly across?: 'sum' | 'max'
}

export type MetricTable = Readonly<Record<string, Metric>>

const listener = '`boot`, `old-boot` or `operator`'

/** Of the whole fleet, read from the database: every replica gives the same. */
export const fleetMetrics = {
  pawl_database_up: {
    type: 'gauge',
    help: 'Whether the database answered; where not, the numbers of the fleet are left out.',
  },
  pawl_nodes: { type: 'gauge', help: 'Nodes.', labels: { state: 'of a node' } },
  pawl_reinstall_marks: {
    type: 'gauge',
    help: 'Nodes marked for reinstall.',
    labels: { mark: '`marked` or `serving`' },
  },
  pawl_sessions: {
    type: 'gauge',
    help: 'Boot sessions that have not ended.',
    labels: { state: 'of a session' },
  },
  pawl_session_oldest_start_timestamp_seconds: {
    type: 'gauge',
    help: 'When the oldest session that has not ended began; left out where there is none.',
    labels: { state: 'of a session' },
  },
  pawl_session_oldest_seen_timestamp_seconds: {
    type: 'gauge',
    help: 'When the quietest session that has not ended was last heard of; left out where there is none.',
    labels: { state: 'of a session' },
  },
  pawl_sessions_slow: {
    type: 'gauge',
    help: 'Boots under way that take longer than usual, those that are stuck left out.',
  },
  pawl_sessions_stuck: {
    type: 'gauge',
    help: 'Boots under way that take far longer than usual, or of which nothing is heard.',
  },
  pawl_nodes_looping: {
    type: 'gauge',
    help: 'Nodes that boot again and again without a report, and are held back.',
  },
  pawl_pending_machines: { type: 'gauge', help: 'Unknown machines that wait for an operator.' },
  pawl_rollouts: {
    type: 'gauge',
    help: 'Rollouts that have not ended.',
    labels: { state: '`running` or `paused`' },
  },
  pawl_proposals: { type: 'gauge', help: 'Changes that wait for a second person.' },
  pawl_events: { type: 'gauge', help: 'Events that are kept.' },
  pawl_event_last_id: { type: 'gauge', help: 'The number of the last event: its rise is their rate.' },
  pawl_event_lag: {
    type: 'gauge',
    help: 'Events that the webhook that is furthest behind has not been looked at for.',
  },
  pawl_checkpoint_timestamp_seconds: {
    type: 'gauge',
    help: 'When the last checkpoint of the event log was signed; 0 before the first.',
  },
  pawl_webhook_deliveries: {
    type: 'gauge',
    help: 'Deliveries of webhooks that are kept.',
    labels: { state: '`waiting` or `dead`' },
  },
  pawl_webhook_oldest_waiting_timestamp_seconds: {
    type: 'gauge',
    help: 'When the oldest delivery that waits was made; left out where none waits.',
  },
  pawl_webhooks: {
    type: 'gauge',
    help: 'Webhooks.',
    labels: { state: '`well`, `failing` or `disabled`' },
  },
} as const satisfies MetricTable

/** Of the machine and the process that answers. */
export const serverMetrics = {
  pawl_build_info: {
    type: 'gauge',
    help: 'Always 1: what runs.',
    labels: { version: 'of Pawl', node: 'version of Node.js', database: '`sqlite` or `postgres`' },
  },
  pawl_workers: {
    type: 'gauge',
    help: 'Processes of this server whose counters are in this answer, the one that answers included.',
  },
  process_start_time_seconds: {
    type: 'gauge',
    help: 'When the process that answers began, in seconds since 1970.',
  },
  pawl_leader: {
    type: 'gauge',
    help: 'Whether this server does the chores of the fleet: 1 at one of all replicas.',
  },
  pawl_certificate_expiry_timestamp_seconds: {
    type: 'gauge',
    help: 'Until when the certificate of a listener is good.',
    labels: { listener },
  },
  pawl_disk_free_bytes: { type: 'gauge', help: 'Room left on the disk of the data folder.' },
  pawl_disk_size_bytes: { type: 'gauge', help: 'Size of the disk of the data folder.' },
  pawl_nodes_without_series: {
    type: 'gauge',
    help: 'Nodes that have no series of their own, because the setting metricsNodes is lower than their number.',
  },
} as const satisfies MetricTable

/** One series a node: ePoxy's names and label. */
export const nodeMetrics = {
  epoxy_stage1_total: {
    type: 'counter',
    help: 'Boots of each machine: stage 1 was served, since the process began.',
    labels: { machine: 'the name of a node' },
  },
  epoxy_last_boot: {
    type: 'gauge',
    help: 'When the last boot session of each machine began, in seconds since 1970; 0 before the first.',
    labels: { machine: 'the name of a node' },
  },
  epoxy_last_success: {
    type: 'gauge',
    help: 'When each machine last reported success, in seconds since 1970; 0 before the first.',
    labels: { machine: 'the name of a node' },
  },
} as const satisfies MetricTable

/** All there are, as the document has them. */
export const metricTables = {
  'Per node, under ePoxy’s names': nodeMetrics,
  'Of the fleet, from the database': fleetMetrics,
  'Counted by the server’s processes': processMetrics,
  'Of the server that answers': serverMetrics,
} as const satisfies Readonly<Record<string, MetricTable>>
