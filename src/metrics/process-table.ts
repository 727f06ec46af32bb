import type { MetricTable } from './table.ts'

/** ePoxy used its library's own: alerts on quantiles keep their steps. */
const epoxyBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const stageBuckets = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200]
const databaseBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]

const listener = '`boot`, `old-boot` or `operator`'

/** Counted by each process as it happens; they begin at zero with it. */
export const processMetrics = {
  epoxy_request_duration_seconds: {
    type: 'histogram',
    help: 'Time to answer a request of the boot listener, to its last byte.',
    labels: { code: 'the status' },
    buckets: epoxyBuckets,
  },
  pawl_http_requests_total: {
    type: 'counter',
    help: 'Requests answered.',
    labels: { listener, route: 'the pattern of the route, `none` where there is none', code: 'the status' },
  },
  pawl_tls_handshakes_total: {
    type: 'counter',
    help: 'TLS handshakes that succeeded.',
    labels: { listener, session: '`new` or `resumed`' },
  },
  pawl_handshake_failures_total: {
    type: 'counter',
    help: 'Connections to the boot listener that did not come to a request.',
    labels: { cause: 'of [handshakes](handshakes.md)' },
  },
  pawl_connections: {
    type: 'gauge',
    help: 'Open connections.',
    labels: { listener },
    across: 'sum',
  },
  pawl_sessions_started_total: {
    type: 'counter',
    help: 'Boot sessions opened, by a stage 1 that was served.',
  },
  pawl_sessions_ended_total: {
    type: 'counter',
    help: 'Boot sessions ended.',
    labels: { outcome: '`ready`, `local`, `failed`, `expired` or `superseded`' },
  },
  pawl_stage_duration_seconds: {
    type: 'histogram',
    help: 'Time from the opening of a stage to the opening of the next, or to the report of success.',
    labels: { stage: '`stage1`, `stage2`, `stage3` or `join`: the stage that ended' },
    buckets: stageBuckets,
  },
  pawl_boot_duration_seconds: {
    type: 'histogram',
    help: 'Time from stage 1 to the report of success.',
    buckets: stageBuckets,
  },
  pawl_tokens_issued_total: {
    type: 'counter',
    help: 'Tokens and download capabilities minted.',
    labels: {
      kind: '`handover`, `stage2`, `stage3`, `join`, `report`, `download-stage2`, `download-stage3` or `extension`',
    },
  },
  pawl_extension_requests_total: {
    type: 'counter',
    help: 'Questions of booting nodes to extension services.',
    labels: {
      operation: 'of an extension; `other` beyond 64 of them',
      outcome: '`answered`, or why there was no answer: a fault of [extensions](extensions.md)',
    },
  },
  pawl_tokens_redeemed_total: {
    type: 'counter',
    help: 'Tokens used up; an answer that is repeated counts no second time.',
    labels: { kind: '`handover`, `stage2`, `stage3`, `join` or `report`' },
  },
  pawl_identity_documents_total: {
    type: 'counter',
    help: 'Identity documents given to nodes, first ones and renewals.',
  },
  pawl_refusals_total: {
    type: 'counter',
    help: 'Requests of machines that were not served.',
    labels: { cause: 'of [boot lifecycle](boot-lifecycle.md)' },
  },
  pawl_noted_total: {
    type: 'counter',
    help: 'Other things that strangers can cause to be noted: refused operators, alarms, machines that ask too often.',
    labels: { kind: 'the kind of its event, of [errors](errors.md)' },
  },
  pawl_notes_dropped_total: {
    type: 'counter',
    help: 'Refusals that are in no event, because the queue or the disk was full.',
  },
  pawl_join_calls_total: {
    type: 'counter',
    help: 'Calls to clusters for the join credentials of single boots.',
    labels: {
      call: '`make` or `remove`',
      outcome: '`done`, or why not: see [joining](joining.md)',
    },
  },
  pawl_join_call_duration_seconds: {
    type: 'histogram',
    help: 'Time of such a call, until its answer or until it was given up.',
    labels: { call: '`make` or `remove`' },
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25],
  },
  pawl_join_busy_total: {
    type: 'counter',
    help: 'Joins that were told to come again because as many calls to clusters as may were under way.',
  },
  pawl_traces_exported_total: {
    type: 'counter',
    help: 'Boots whose traces the collector took.',
  },
  pawl_traces_dropped_total: {
    type: 'counter',
    help: 'Boots whose traces were given up: refused by the collector, or too many, or too old when it answered.',
  },
  pawl_traces_waiting: {
    type: 'gauge',
    help: 'Boots that ended and whose traces the collector has not taken; told by the server that leads.',
    across: 'sum',
  },
  pawl_events_total: {
    type: 'counter',
    help: 'Events of boots and of changes written; refusals are counted apart.',
    labels: { kind: 'of [errors](errors.md)' },
  },
  pawl_image_bytes_total: {
    type: 'counter',
    help: 'Bytes of images that sessions were sent.',
    labels: { way: '`session`: by us; `redirected`: asked for at the object storage' },
  },
  pawl_admission_working: { type: 'gauge', help: 'Boot requests in work.', across: 'sum' },
  pawl_admission_waiting: { type: 'gauge', help: 'Boot requests that wait for their turn.', across: 'sum' },
  pawl_admission_longest_wait_seconds: {
    type: 'gauge',
    help: 'How long the request has waited that waits longest.',
    across: 'max',
  },
  pawl_admission_nodes_waiting: {
    type: 'gauge',
    help: 'Nodes that were told to come again and have not come yet.',
    across: 'sum',
  },
  pawl_admission_admitted_total: { type: 'counter', help: 'Boot requests that were let in.' },
  pawl_admission_waited_total: { type: 'counter', help: 'Of those, which waited first.' },
  pawl_admission_waited_seconds_total: { type: 'counter', help: 'How long those waited together.' },
  pawl_admission_told_to_wait_total: {
    type: 'counter',
    help: 'Boot requests told to come again: the queue was full, or waiting would have taken too long.',
    labels: { kind: '`report`, `running`, `new` or `download`' },
  },
  pawl_handshakes_running: {
    type: 'gauge',
    help: 'TLS handshakes under way at the boot listener.',
    across: 'sum',
  },
  pawl_handshakes_waiting: {
    type: 'gauge',
    help: 'Connections to the boot listener that wait for their turn to shake hands.',
    across: 'sum',
  },
  pawl_connections_closed_total: {
    type: 'counter',
    help: 'Connections to the boot listener closed, or not taken, because of a limit.',
    labels: {
      limit: 'of [configuration](configuration.md): `connections`, `connections-of-address` and the like',
    },
  },
  pawl_transfers: { type: 'gauge', help: 'Downloads of sessions under way.', across: 'sum' },
  pawl_artifact_cache_bytes: { type: 'gauge', help: 'Memory that cached artifacts have.', across: 'sum' },
  pawl_artifact_cache_limit_bytes: {
    type: 'gauge',
    help: 'Memory that cached artifacts may have.',
    across: 'sum',
  },
  pawl_artifact_cache_requests_total: {
    type: 'counter',
    help: 'Artifacts that downloads read, by what a cache had.',
    labels: {
      cache: '`memory`, or `disk`: before an object storage, asked where the memory has it not',
      answer:
        '`hit`: all of it was there; `miss`: some was fetched into it; `passed`: some was read past it, for want of room',
    },
  },
  pawl_tftp_transfers: { type: 'gauge', help: 'TFTP transfers under way.', across: 'sum' },
  pawl_tftp_transfers_begun_total: { type: 'counter', help: 'TFTP requests that began a transfer.' },
  pawl_tftp_transfers_ended_total: {
    type: 'counter',
    help: 'TFTP transfers that ended.',
    labels: {
      outcome:
        '`done`; `aborted` by the client, which is how firmware asks for a size; given up: `unanswered` (nobody there, or a firewall), `silent`, `unconfirmed` (only the last acknowledgement is missing), `astray` (an answer to another port), `evicted` (for want of room), `stopped`',
    },
  },
  pawl_tftp_refusals_total: {
    type: 'counter',
    help: 'TFTP requests that began none.',
    labels: {
      cause: '`too-many-requests`, `too-many-transfers`, `malformed`, `read-only`, `not-found` or `options`',
    },
  },
  pawl_tftp_bytes_total: {
    type: 'counter',
    help: 'Bytes of files that TFTP clients acknowledged, counted when a transfer ends.',
  },
  pawl_database_transaction_duration_seconds: {
    type: 'histogram',
    help: 'Time of a transaction, from the call until it is durable or rolled back, waiting included.',
    labels: { outcome: '`committed` or `rolled-back`' },
    buckets: databaseBuckets,
  },
  pawl_database_errors_total: {
    type: 'counter',
    help: 'Transactions that the database did not carry out.',
    labels: { code: '`storage-unavailable`, `disk-full` or `other`' },
  },
  pawl_event_loop_delay_seconds: {
    type: 'gauge',
    help: 'How late the event loop was since the scrape before: of several processes, the latest.',
    labels: { percentile: '`50`, `99` or `100`' },
    across: 'max',
  },
  process_cpu_seconds_total: {
    type: 'counter',
    help: 'CPU time of all processes of this server, user and system.',
  },
  process_resident_memory_bytes: {
    type: 'gauge',
    help: 'Memory of all processes of this server; what they share counts in each.',
    across: 'sum',
  },
  nodejs_heap_used_bytes: { type: 'gauge', help: 'JavaScript heap in use, of all processes.', across: 'sum' },
} as const satisfies MetricTable
