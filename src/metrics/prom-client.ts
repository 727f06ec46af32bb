import { createRequire } from 'node:module'
import type * as client from 'prom-client'

/**
 * The parts of prom-client that count. The whole of it measures Node as well, and loads the OpenTelemetry API for that: sixty modules that
 * nothing here uses, at each start.
 */
const load = createRequire(import.meta.url)

export const Counter = load('prom-client/lib/counter') as typeof client.Counter
export const Gauge = load('prom-client/lib/gauge') as typeof client.Gauge
export const Histogram = load('prom-client/lib/histogram') as typeof client.Histogram
export const Registry = load('prom-client/lib/registry') as typeof client.Registry
export const AggregatorRegistry = load('prom-client/lib/cluster') as typeof client.AggregatorRegistry

export type Counter<Label extends string = string> = client.Counter<Label>
export type Gauge<Label extends string = string> = client.Gauge<Label>
export type Histogram<Label extends string = string> = client.Histogram<Label>
export type Registry = client.Registry
