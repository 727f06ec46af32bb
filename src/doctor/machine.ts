import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { readFileSync, statSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { openAuthority } from '../pki/authority.ts'
import { lifetimeOf } from '../pki/x509.ts'
import { isPostgresUrl } from '../storage/database.ts'
import { listEvents } from '../storage/events.ts'
import { type Finding, fail, ok, type Subject, warn } from './finding.ts'

/** Tokens, certificates and the log are worth no more than the clock. */
export async function clock(subject: Subject): Promise<Finding[]> {
  const { now, storage, dataDir } = subject
  const advice = 'set the clock, by NTP'
  const { notBefore } = lifetimeOf(new X509Certificate(openAuthority(dataDir).rootCertificate))
  if (now < notBefore) {
    return [fail('clock', `${now.toISOString()} is before our CA was made`, advice)]
  }
  const [newest] =
    storage === undefined ? [] : await listEvents(storage.db, { limit: 1, newest: true }).catch(() => [])
  if (newest !== undefined && Date.parse(newest.at) > now.getTime() + 60_000) {
    return [
      fail(
        'clock',
        `${now.toISOString()} is before the newest event, of ${newest.at}`,
        `${advice}; what was issued meanwhile may last too long`,
      ),
    ]
  }
  const synchronised = await ntp()
  if (synchronised === false)
    return [warn('clock', 'is not set by NTP', 'enable systemd-timesyncd, chrony or ntpd')]
  const how = synchronised === undefined ? ' (whether NTP sets it cannot be asked here)' : ', set by NTP'
  return [ok('clock', `${now.toISOString().slice(0, 19)}Z${how}`)]
}

async function ntp(): Promise<boolean | undefined> {
  try {
    const { stdout } = await promisify(execFile)(
      'timedatectl',
      ['show', '-p', 'NTPSynchronized', '--value'],
      { timeout: 3000 },
    )
    return stdout.trim() === 'yes' ? true : stdout.trim() === 'no' ? false : undefined
  } catch {
    return undefined // no systemd here
  }
}

/** Room for what grows: the database, the artifacts, uploads on their way. */
export async function disk({ config, dataDir }: Subject): Promise<Finding[]> {
  const places = new Map<string, string[]>()
  const add = (what: string, path: string): void => {
    const at = existing(path)
    const key = String(statSync(at).dev)
    places.set(key, [...(places.get(key) ?? [at]), what])
  }
  add('data folder', dataDir)
  if (!isPostgresUrl(config.database)) add('database', config.database)
  if (config.artifacts?.kind === 'folder') add('artifacts', config.artifacts.path)
  const findings: Finding[] = []
  for (const [path = '', ...what] of places.values()) {
    const { bavail, bsize, blocks, ffree, files } = await statfs(path)
    const free = Math.floor((bavail * bsize) / 2 ** 20)
    const check = `disk of ${what.join(' and ')}`
    const advice =
      'free some space: pawl image prune removes old images, pawl event list shows what floods the log'
    const reserve = config.refusalDiskReserveMiB
    if (free < reserve)
      findings.push(
        fail(
          check,
          `${free} MiB free, less than the reserve of ${reserve}: refusals are not recorded`,
          advice,
        ),
      )
    else if (free < 4 * reserve || bavail < blocks * 0.05)
      findings.push(warn(check, `${free} MiB free`, advice))
    else findings.push(ok(check, `${free} MiB free`))
    if (files > 0 && ffree < 10_000)
      findings.push(
        warn(check, `${ffree} inodes free`, 'remove small files, or make a file system with more'),
      )
  }
  return findings
}

/** The path, or what of it is there. */
function existing(path: string): string {
  return statSync(path, { throwIfNoEntry: false }) === undefined && dirname(path) !== path
    ? existing(dirname(path))
    : path
}

/** Whether machines find this server by the name that scripts give them. */
export async function names({ config, hostName }: Subject): Promise<Finding[]> {
  if (config.publicUrl === undefined) {
    return [
      warn(
        'public URL',
        `is not set: machines are sent to https://${hostName} and the boot port`,
        'set publicUrl in pawl.yaml to what machines reach',
      ),
    ]
  }
  const host = new URL(config.publicUrl).hostname.replace(/^\[|\]$/g, '')
  const own = new Set(
    Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)),
  )
  if (isIP(host) !== 0) {
    if (own.has(host)) return [ok('public URL', `${config.publicUrl} is an address of this machine`)]
    return [
      warn(
        'public URL',
        `${host} is no address of this machine`,
        'right behind a load balancer or NAT; else set publicUrl',
      ),
    ]
  }
  const found = await lookup(host, { all: true }).catch(() => [])
  if (found.length === 0) {
    return [
      fail(
        'public URL',
        `${host} does not resolve here`,
        'add it to the DNS, or set publicUrl to a name that machines can resolve',
      ),
    ]
  }
  const addresses = found.map(({ address }) => address)
  if (addresses.some((address) => own.has(address)))
    return [ok('public URL', `${host} is ${addresses.join(', ')}, this machine`)]
  return [
    warn(
      'public URL',
      `${host} is ${addresses.join(', ')}, none of them this machine`,
      'right behind a load balancer or NAT; else mend the DNS',
    ),
  ]
}

/** What the process is given: its Node, and how many files it may open. */
export function runtime({ nodeVersion, announced, isAlive, config }: Subject): Finding[] {
  const [major = 0, minor = 0] = nodeVersion.split('.').map(Number)
  const findings = [
    major > 22 || (major === 22 && minor >= 19)
      ? ok('Node', nodeVersion)
      : fail('Node', `${nodeVersion} is too old`, 'install Node 24'),
  ]
  if (announced === undefined || !isAlive(announced.pid)) return findings
  const most = filesOf(announced.pid)
  const wanted = config.maxConnections + 1000
  if (most === undefined) return findings
  return [
    ...findings,
    most >= wanted
      ? ok('open files', `the server may open ${most}`)
      : warn(
          'open files',
          `the server may open ${most}, and maxConnections is ${config.maxConnections}`,
          `set LimitNOFILE=${wanted} in its unit, or lower maxConnections`,
        ),
  ]
}

function filesOf(pid: number): number | undefined {
  try {
    const line = /^Max open files\s+(\d+)/m.exec(readFileSync(join('/proc', String(pid), 'limits'), 'utf8'))
    return line === null ? undefined : Number(line[1])
  } catch {
    return undefined // gone, or no /proc
  }
}
