/** The package has no types of its own; these are the parts that tests use. */
declare module 'oidc-provider' {
  import type { RequestListener } from 'node:http'

  export interface Configuration {
    readonly [name: string]: unknown
    readonly findAccount?: (
      context: unknown,
      id: string,
    ) => { accountId: string; claims(): Promise<Record<string, unknown>> }
  }

  export default class Provider {
    constructor(issuer: string, configuration: Configuration)
    callback(): RequestListener
    on(event: string, listener: (...args: unknown[]) => void): this
  }
}
