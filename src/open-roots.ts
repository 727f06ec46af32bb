import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { BootSettings } from './boot/context.ts'
import type { BootEntry } from './boot/entry.ts'
import type { Config, ListenAddress } from './config.ts'
import { PawlError } from './errors.ts'
import type { NextRoot } from './fleet/roots.ts'
import { namesOf, operatorNamesOf } from './listen.ts'
import { type Authority, openAuthority } from './pki/authority.ts'
import { findPublicFile } from './pki/key-file.ts'
import type { OwnPair } from './pki/own-files.ts'
import { authorityFiles, cutOverFile, hasNext } from './pki/places.ts'
import { finishCutOver } from './pki/rotation.ts'
import { loadTls, type ServerTls, type TlsRequest } from './pki/tls.ts'
import { rootFingerprint } from './pki/x509.ts'

/** A boot listener to be: where, by which entry, with which certificates. */
export interface BootSide {
  readonly listen: ListenAddress
  readonly entry: BootEntry
  readonly tls: ServerTls
}

/** The roots that are served. */
export interface OpenRoots {
  /** What new media, scripts and machines are told. */
  readonly main: BootSide
  /** For machines that know the root of before; undefined where no root is rotated. */
  readonly old: BootSide | undefined
  readonly operatorTls: ServerTls
  /** The root of the CA in the data folder, PEM. */
  readonly rootCertificate: () => string
  /** The CA under which publishers get certificates: the next one, once it is served. */
  readonly signing: () => Authority
  /** The root of the next CA, where it is made. */
  readonly next: () => NextRoot | undefined
  /** Goes over to what a cut-over put in place; false where none was. `old` is gone then, and all `options()` are new. */
  follow(): Promise<boolean>
}

/** What they are opened with. */
export interface RootsOptions {
  readonly config: Config
  readonly hostName: string
  readonly clock: () => Date
  readonly log: Logger
  /** Its public URL may be filled in later. */
  readonly settings: Pick<BootSettings, 'publicUrl'>
  /** The CAs of client certificates, PEM. */
  readonly clientCas: { readonly operator: string; readonly node: string }
}

/** The certificates as they are now: replaced as a whole when a root was cut over. */
interface Loaded {
  readonly current: Authority
  readonly signing: Authority
  readonly mainTls: ServerTls
  readonly oldTls: ServerTls | undefined
  readonly operatorTls: ServerTls
}

/**
 * Opens the CA of the data folder, and the next one where its root is being rotated (`pki/rotation.ts`): that one is served at
 * `publicUrl` as soon as the settings say where the old one is.
 */
export async function openRoots(options: RootsOptions): Promise<OpenRoots> {
  const { config, log, settings } = options
  if (finishCutOver(config.dataDir) !== undefined)
    log.warn('a cut-over of the root that was cut off is finished now')
  let loaded = await load(options)
  const { oldBootListen, oldPublicUrl } = config
  if (oldBootListen !== undefined && loaded.oldTls === undefined)
    log.warn('oldBootListen is passed over: there is no other root than that of publicUrl; take it out')
  const main: BootSide = {
    listen: config.bootListen,
    entry: entryOf(
      () => settings.publicUrl,
      () => loaded.mainTls,
    ),
    get tls() {
      return loaded.mainTls
    },
  }
  const oldTls = (): ServerTls => loaded.oldTls ?? loaded.mainTls
  const old: BootSide | undefined =
    oldBootListen === undefined || oldPublicUrl === undefined
      ? undefined
      : {
          listen: oldBootListen,
          entry: entryOf(() => oldPublicUrl, oldTls),
          get tls() {
            return oldTls()
          },
        }
  return {
    main,
    get old() {
      return loaded.oldTls === undefined ? undefined : old
    },
    get operatorTls() {
      return loaded.operatorTls
    },
    rootCertificate: () => loaded.current.rootCertificate,
    signing: () => loaded.signing,
    next: () => nextOf(config.dataDir),
    async follow() {
      const { dataDir } = config
      if (existsSync(cutOverFile(dataDir))) return false // under way, or to be finished by whoever began it
      if (findPublicFile(join(dataDir, 'ca.crt')) === loaded.current.rootCertificate) return false
      loaded = await load(options)
      log.warn({ root: main.entry.root }, 'the root was cut over: the old boot listener closes')
      return true
    },
  }
}

async function load(options: RootsOptions): Promise<Loaded> {
  const { config, hostName, clientCas } = options
  const current = openAuthority(config.dataDir)
  const rotates = config.oldBootListen !== undefined && hasNext(config.dataDir)
  const signing = rotates ? openAuthority(config.dataDir, 'next') : current
  const names = namesOf(config, hostName)
  const boot = { kind: 'boot', now: options.clock(), clientCa: clientCas.node } as const
  const ecdsa = config.bootEcdsa === 'on'
  const mainTls = (await ownBoot(options)) ?? (await loadTls(signing, { ...boot, names, ecdsa }))
  const isOther = mainTls.root !== rootFingerprint(current.rootCertificate)
  const oldNames = namesOf({ ...config, publicUrl: config.oldPublicUrl }, hostName)
  const oldTls =
    config.oldBootListen !== undefined && isOther
      ? await loadTls(current, { ...boot, names: oldNames, ecdsa })
      : undefined
  const operator: TlsRequest = {
    kind: 'operator',
    names: operatorNamesOf([...new Set([...names, ...(rotates ? oldNames : [])])], config),
    now: options.clock(),
    clientCa: clientCas.operator,
  }
  const operatorTls = (await ownOperator(options, operator)) ?? (await loadTls(current, operator))
  return { current, signing, mainTls, oldTls, operatorTls }
}

/** A CA that is half made, or half way into its place, is none yet. */
function nextOf(dataDir: string): NextRoot | undefined {
  const certificates = hasNext(dataDir)
    ? findPublicFile(authorityFiles(dataDir, 'next').rootCertificate)
    : undefined
  return certificates === undefined ? undefined : { root: rootFingerprint(certificates), certificates }
}

/** Live: the public URL may be known later, and certificates of the operator's own are read again. */
function entryOf(publicUrl: () => string, tls: () => ServerTls): BootEntry {
  return {
    get publicUrl() {
      return publicUrl()
    },
    get root() {
      return tls().root
    },
    get ca() {
      return tls().roots
    },
  }
}

/** The boot listener's certificates of the operator's own; undefined where there are none. */
async function ownBoot({
  config,
  hostName,
  clock,
  log,
  clientCas,
}: RootsOptions): Promise<ServerTls | undefined> {
  const pairs = [
    pairOf(config.bootCertFile, config.bootKeyFile),
    pairOf(config.bootEcdsaCertFile, config.bootEcdsaKeyFile),
  ].filter((pair) => pair !== undefined)
  if (pairs.length === 0 || config.bootCaFile === undefined) return undefined
  if (config.publicUrl === undefined)
    throw new PawlError('usage', 'publicUrl is missing: bootCertFile is checked against it')
  const { loadOwnTls } = await import('./pki/own-tls.ts')
  return loadOwnTls({
    kind: 'boot',
    files: { pairs, caFile: config.bootCaFile },
    names: ownNames(namesOf(config, hostName), config.names),
    now: clock(),
    clientCa: clientCas.node,
    warn: ({ found, advice }) => log.warn({ advice }, found),
  })
}

async function ownOperator(
  { config, clock, log }: RootsOptions,
  { clientCa, names }: TlsRequest,
): Promise<ServerTls | undefined> {
  const pair = pairOf(config.operatorCertFile, config.operatorKeyFile)
  if (pair === undefined || config.operatorCaFile === undefined) return undefined
  const url = config.operatorUrl
  const called = url === undefined ? names : [new URL(url).hostname.replace(/^\[|\]$/g, '')]
  const { loadOwnTls } = await import('./pki/own-tls.ts')
  return loadOwnTls({
    kind: 'operator',
    files: { pairs: [pair], caFile: config.operatorCaFile },
    names: ownNames(called, []),
    now: clock(),
    ...(clientCa === undefined ? {} : { clientCa }),
    warn: ({ found, advice }) => log.warn({ advice }, found),
  })
}

/** The first is the public URL's; of the rest only those that the settings name: nobody's certificate has `localhost`. */
function ownNames([needed = '']: readonly string[], others: readonly string[]) {
  return { needed, others: others.filter((name) => name !== needed) }
}

function pairOf(certFile: string | undefined, keyFile: string | undefined): OwnPair | undefined {
  return certFile === undefined || keyFile === undefined ? undefined : { certFile, keyFile }
}
