import { createHash, X509Certificate } from 'node:crypto'
import { hostname } from 'node:os'
import { dataDirOf, type ListenAddress, loadConfig } from '../config.ts'
import type { DhcpSource } from '../dhcp/entries.ts'
import { PawlError } from '../errors.ts'
import { listIpxe } from '../ipxe/folder.ts'
import { checkDataFolder, settingsFile } from '../pki/data-folder.ts'
import { findPublicFile, findSecretFile } from '../pki/key-file.ts'
import { mainRootFile } from '../pki/places.ts'
import type { GlobalFlags } from './context.ts'
import type { Io } from './io.ts'

/** What the data folder says of its server: where machines reach it, its root and its iPXE binaries. No server need run. */
export async function dhcpSource(
  { env }: Io,
  flags: GlobalFlags,
): Promise<DhcpSource & { readonly faults: readonly string[] }> {
  const dataDir = dataDirOf({ flags: { data: flags.data }, env })
  checkDataFolder(dataDir)
  const fileName = settingsFile(dataDir)
  const config = loadConfig({
    flags: { data: flags.data },
    env,
    fileText: findSecretFile(fileName),
    fileName,
  })
  const tftp: 'off' | ListenAddress = config.tftpListen
  const { binaries, faults } = await listIpxe(dataDir)
  return {
    publicUrl: config.publicUrl ?? `https://${hostname().toLowerCase()}:${config.bootListen.port}`,
    rootFingerprint: fingerprintOf(mainRootFile(dataDir, config)),
    tftp: tftp === 'off' ? undefined : tftp,
    binaries,
    faults: faults.map(({ message }) => message),
  }
}

function fingerprintOf(file: string): string {
  const pem = findPublicFile(file)
  if (pem === undefined)
    throw new PawlError('not-found', `${file} is not there`, { hint: 'pawl init makes it' })
  return createHash('sha256').update(new X509Certificate(pem).raw).digest('hex')
}
