import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../config.ts'
import { isPawlError } from '../errors.ts'
import { checkDataFolder, settingsFile } from '../pki/data-folder.ts'
import { findSecretFile } from '../pki/key-file.ts'
import { openAsItIs, type Storage } from '../storage/database.ts'
import { certificates, keys } from './certificates.ts'
import { checkpoints } from './checkpoints.ts'
import { images, profiles, templates } from './content.ts'
import { database, events, lastBackup } from './database.ts'
import { durability } from './durability.ts'
import { extensions } from './extensions.ts'
import { type Announced, type Check, type Finding, fail, failure, ok, type Subject } from './finding.ts'
import { identity } from './identity.ts'
import { joins } from './joins.ts'
import { leaves } from './leaves.ts'
import { listeners } from './listeners.ts'
import { clock, disk, names, runtime } from './machine.ts'
import { replicas } from './replicas.ts'
import { rotation } from './roots.ts'
import { sealed } from './sealed.ts'
import { tftp } from './tftp.ts'
import { traces } from './traces.ts'

/** What `pawl doctor` is told. */
export interface ExamineOptions extends Omit<Subject, 'config' | 'storage' | 'announced'> {
  /** The settings, from flags and variables and what the settings file says. */
  readonly configOf: (fileText: string | undefined) => Config
  /** Each check is cut off after this. */
  readonly timeoutMilliseconds?: number
}

/** All that was found. */
export interface Examined {
  readonly version: string
  readonly dataDir: string
  /** False where something fails. */
  readonly ok: boolean
  readonly findings: readonly Finding[]
}

const checks: readonly Check[] = [
  { name: 'certificates', run: certificates },
  { name: 'root rotation', run: rotation },
  { name: 'keys', run: keys },
  { name: 'sealed settings', run: sealed },
  { name: 'identity', run: identity },
  { name: 'clock', run: clock },
  { name: 'disk', run: disk },
  { name: 'database', run: database },
  { name: 'durability', run: durability },
  { name: 'events', run: events },
  { name: 'checkpoints', run: checkpoints },
  { name: 'replicas', run: replicas },
  { name: 'backup', run: lastBackup },
  { name: 'listeners', run: listeners },
  { name: 'TFTP', run: tftp },
  { name: 'traces', run: traces },
  { name: 'extensions', run: extensions },
  { name: 'names', run: names },
  { name: 'templates', run: templates },
  { name: 'images', run: images },
  { name: 'profiles', run: profiles },
  { name: 'joins', run: joins },
  { name: 'leaves', run: leaves },
  { name: 'runtime', run: runtime },
]

/** Examines an installation, its server running or not, and changes nothing. A check that cannot be made is a finding too. */
export async function examine(options: ExamineOptions): Promise<Examined> {
  const { dataDir, version } = options
  const first = folder(dataDir)
  if (first.level === 'fail') return { version, dataDir, ok: false, findings: [first] }
  const settings = readSettings(options)
  const opened = openDatabase(settings.config.database)
  const findings = [first, settings.finding]
  if (opened.fault !== undefined) findings.push(opened.fault)
  const subject = { ...options, ...settings, storage: opened.storage, announced: readAnnounced(dataDir) }
  try {
    for (const check of checks) findings.push(...(await inTime(check, subject, options)))
  } finally {
    await opened.storage?.close()
  }
  return { version, dataDir, ok: findings.every(({ level }) => level !== 'fail'), findings }
}

async function inTime(
  { name, run }: Check,
  subject: Subject,
  { timeoutMilliseconds = 10_000, full }: ExamineOptions,
): Promise<Finding[]> {
  let timer: NodeJS.Timeout | undefined
  // Reading everything takes the time that it takes.
  const limit = full ? 24 * 3600_000 : timeoutMilliseconds
  const late = new Promise<Finding[]>((resolve) => {
    const advice = 'look at what it depends on: a disk or a network that does not answer'
    timer = setTimeout(() => resolve([fail(name, `no result after ${limit / 1000} s`, advice)]), limit)
  })
  try {
    return await Promise.race([Promise.resolve(subject).then(run), late])
  } catch (error) {
    return [failure(name, error)]
  } finally {
    clearTimeout(timer)
  }
}

function folder(dataDir: string): Finding {
  try {
    checkDataFolder(dataDir)
    if (existsSync(join(dataDir, 'ca.crt')) || existsSync(settingsFile(dataDir)))
      return ok('folder', `${dataDir} is ours alone`)
    return fail('folder', `${dataDir} holds no Pawl data`, `run pawl init --data ${dataDir}, or name another`)
  } catch (error) {
    return failure('folder', error)
  }
}

/** Settings that cannot be read are a finding; the rest is examined by the defaults. */
function readSettings({ dataDir, configOf }: ExamineOptions): { config: Config; finding: Finding } {
  const file = settingsFile(dataDir)
  try {
    const text = findSecretFile(file)
    const config = configOf(text)
    return { config, finding: ok('settings', text === undefined ? 'the defaults' : `${file} is good`) }
  } catch (error) {
    return { config: configOf(undefined), finding: failure('settings', error) }
  }
}

function openDatabase(location: string): { storage: Storage | undefined; fault?: Finding } {
  try {
    return { storage: openAsItIs(location, { readOnly: true }) }
  } catch (error) {
    const absent =
      isPawlError(error) && !/^postgres/.test(location) && !statSync(location, { throwIfNoEntry: false })
    const fault = absent
      ? fail(
          'database',
          `there is no ${location}`,
          'restore the last backup with pawl restore; pawl init makes an empty one',
        )
      : failure('database', error)
    return { storage: undefined, fault }
  }
}

/** What the server of this folder wrote when it started last. */
export function readAnnounced(dataDir: string): Announced | undefined {
  const file = join(dataDir, 'server.json')
  if (!existsSync(file)) return undefined
  try {
    const { boot, operator, pid, version, tftp } = JSON.parse(readFileSync(file, 'utf8')) as Record<
      string,
      unknown
    >
    if (typeof boot !== 'string' || typeof operator !== 'string' || typeof pid !== 'number') return undefined
    if (!URL.canParse(boot) || !URL.canParse(operator)) return undefined
    const tftpPort = typeof tftp === 'string' ? Number(/:(\d+)$/.exec(tftp)?.[1]) : Number.NaN
    return {
      boot,
      operator,
      pid,
      ...(typeof version === 'string' ? { version } : {}),
      ...(Number.isNaN(tftpPort) ? {} : { tftp: tftpPort }),
    }
  } catch {
    return undefined
  }
}
