/** A file that is served, whole in memory. */
export interface TftpFile {
  readonly name: string
  readonly bytes: Buffer
}

/** What there is to ask for: a fixed list. A name that is not in it does not exist, wherever it points. */
export interface TftpFiles {
  /** The file of this name for this client; undefined where there is none. */
  find(name: string, client: string): TftpFile | undefined | Promise<TftpFile | undefined>
  names(): readonly string[]
}

/** A fixed list, to make the next one from. */
export interface FixedFiles extends TftpFiles {
  all(): ReadonlyMap<string, TftpFile>
}

/** The site script's name: iPXE asks for it in the folder it came from. */
export const siteScriptName = 'autoexec.ipxe'

/** The script that names the node, where there is one; never with a secret, since nobody who asks is proved. */
export type NodeScripts = (of: ScriptOf) => Promise<string | undefined>

/** By what a node is looked for: its MAC address, or an address that it alone has. */
export type ScriptOf = { readonly mac: string } | { readonly address: string }

/**
 * Files by name. Firmware asks for `ipxe.efi`, `/ipxe.efi` or `./ipxe.efi`: all are one. A folder `mac-52-54-00-12-34-56`
 * holds the same files: a DHCP server that names a node's boot file there has its iPXE ask for that node's script.
 */
export function fixedFiles(files: readonly TftpFile[], nodeScripts?: NodeScripts): FixedFiles {
  const byName = new Map(files.map((file) => [file.name, file]))

  async function forNode(generic: TftpFile, of: ScriptOf): Promise<TftpFile> {
    const text = await nodeScripts?.(of)
    return text === undefined ? generic : { name: siteScriptName, bytes: Buffer.from(text) }
  }

  return {
    names: () => [...byName.keys()],
    all: () => byName,
    find: (asked, client) => {
      const path = plainName(asked)
      const [, mac, inFolder] = /^mac-([0-9a-f]{2}(?:-[0-9a-f]{2}){5})\/([^/]+)$/i.exec(path) ?? []
      const file = byName.get(inFolder ?? path)
      if (file === undefined || file.name !== siteScriptName || nodeScripts === undefined) return file
      return forNode(
        file,
        mac === undefined ? { address: client } : { mac: mac.toLowerCase().replaceAll('-', ':') },
      )
    },
  }
}

/** Without what stands before a name that is at the top: slashes and `./`. Everything else stays, and is then no name. */
function plainName(asked: string): string {
  return asked.replace(/^(?:\.?\/)+/, '')
}
