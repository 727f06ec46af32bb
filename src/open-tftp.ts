import type { Logger } from 'pino'
import type { BootContext } from './boot/context.ts'
import { siteScript } from './boot/site-script.ts'
import { type Config, formatListen } from './config.ts'
import type { TftpMeter } from './domain/meters.ts'
import type { ServedBinaries } from './ipxe/served.ts'
import { findAddressHolders, findNodeNames } from './storage/nodes.ts'
import { fixedFiles, type NodeScripts, siteScriptName, type TftpFile, type TftpFiles } from './tftp/files.ts'
import { openNodeScripts } from './tftp/node-scripts.ts'
import { openTftpServer } from './tftp/server.ts'

/** What TFTP is served from. */
export interface TftpOptions {
  readonly config: Config
  readonly log: Logger
  readonly context: Pick<BootContext, 'storage' | 'templates' | 'entry'>
  readonly ipxe: ServedBinaries
  readonly counts: { readonly tftp: TftpMeter; keep(gauges: { readonly tftpTransfers: () => number }): void }
}

/** TFTP that is served. */
export interface OpenTftp {
  /** `HOST:PORT`, for the ready line. */
  readonly address: string
  /** Takes up what `pawl ipxe` changed. */
  refresh(): Promise<void>
  close(): Promise<void>
}

/** Serves iPXE and the site script by TFTP where the settings say so. Throws `usage` where it cannot listen. */
export async function openTftp(options: TftpOptions): Promise<OpenTftp | undefined> {
  const { config, log } = options
  const { tftpListen: listen } = config
  if (listen === 'off') return undefined
  const now = (): number => performance.now()
  const nodeScripts = config.tftpNodeScripts === 'on' ? scriptsOfNodes(options, now) : undefined
  let files = fixedFiles(await readFiles(options, new Map()), nodeScripts)
  const server = await openTftpServer({
    listen,
    files: { find: (name, client) => files.find(name, client), names: () => files.names() },
    limits: {
      maxBlockSize: config.tftpMaxBlockSize,
      maxWindowSize: config.tftpMaxWindowSize,
      maxTransfers: config.tftpMaxTransfers,
      maxTransfersPerClient: config.tftpMaxTransfersPerClient,
      giveUpSeconds: config.tftpGiveUpSeconds,
    },
    now,
    log,
    meter: options.counts.tftp,
  })
  options.counts.keep({ tftpTransfers: server.open })
  tell(files)

  function tell({ names }: TftpFiles): void {
    if (names().length > 1) log.info({ files: names() }, 'files served by TFTP')
    else log.warn('TFTP serves no iPXE: pawl ipxe fetch brings it')
  }

  async function refresh(): Promise<void> {
    const before = files
    files = fixedFiles(await readFiles(options, before.all()), nodeScripts)
    if (files.names().join() !== before.names().join()) tell(files)
  }

  return {
    address: formatListen({ host: listen.host, port: server.port }),
    refresh,
    close: () => server.close(config.shutdownGraceSeconds * 1000),
  }
}

/** A file that is as it was stays the same object: its packets are made already. */
async function readFiles(
  { context, ipxe }: TftpOptions,
  before: ReadonlyMap<string, TftpFile>,
): Promise<TftpFile[]> {
  const files: TftpFile[] = [{ name: siteScriptName, bytes: Buffer.from(siteScript(context, {})) }]
  for (const { name } of await ipxe.list()) {
    const found = await ipxe.find(name)
    if (found !== undefined && name !== siteScriptName) files.push({ name, bytes: found.bytes })
  }
  return files.map((file) => {
    const known = before.get(file.name)
    return known?.bytes.equals(file.bytes) ? known : file
  })
}

function scriptsOfNodes({ context, log }: TftpOptions, now: () => number): NodeScripts {
  const { db } = context.storage
  return openNodeScripts({
    nodeOf: async (of) => {
      const names = 'mac' in of ? await findNodeNames(db, of) : await findAddressHolders(db, of.address)
      return names.length === 1 ? names[0] : undefined // what two nodes have names neither
    },
    scriptOf: (host) => siteScript(context, { host }),
    now,
    onError: (error) => log.error({ err: error }, 'no script of a node by TFTP'),
  })
}
