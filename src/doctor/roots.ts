import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { addSeconds } from '../domain/clock.ts'
import { authorityFiles, openAuthority } from '../pki/authority.ts'
import { faultsOf, type OwnFault, rootWords } from '../pki/own-faults.ts'
import { type OwnCertificates, type OwnFiles, readOwn } from '../pki/own-files.ts'
import { hasNext, retiredLabels } from '../pki/places.ts'
import { hasHalfNext } from '../pki/rotation.ts'
import { rootFingerprint } from '../pki/x509.ts'
import { countRootUsers } from '../storage/node-roots.ts'
import { type Finding, fail, failure, ok, type Subject, warn } from './finding.ts'

/** The CA that the boot listener at `publicUrl` has: the next one, while both roots are served. */
export function mainGeneration({ dataDir, config }: Subject): 'current' | 'next' {
  return config.oldBootListen !== undefined && hasNext(dataDir) ? 'next' : 'current'
}

/** A rotation of the root: whether one is under way, and how far it is. */
export async function rotation(subject: Subject): Promise<Finding[]> {
  const { dataDir, config, now, storage } = subject
  const check = 'root rotation'
  const findings: Finding[] = []
  const keys = retiredLabels(dataDir).filter((label) =>
    existsSync(join(dataDir, 'pki', 'retired', label, 'issuing.key')),
  )
  if (keys.length > 0) {
    const advice =
      'old media believe its keys: move the folder offline, or destroy it when no such media is left'
    findings.push(warn('retired root', `pki/retired has the keys of ${keys.join(', ')}`, advice))
  }
  if (hasHalfNext(dataDir))
    return [...findings, warn(check, 'the next CA is not whole', 'run pawl root rotate again: it goes on')]
  const isOwn = config.bootCertFile !== undefined
  if (config.oldBootListen === undefined) {
    if (!hasNext(dataDir)) return findings
    const advice = 'set oldBootListen and oldPublicUrl, and restart: docs/certificates.md has the steps'
    return [...findings, warn(check, 'the next CA is made, and not served yet', advice)]
  }
  if (!hasNext(dataDir) && !isOwn) {
    const found = 'oldBootListen is set, and there is no other root: nothing listens there'
    return [...findings, warn(check, found, 'take oldBootListen and oldPublicUrl out of the settings')]
  }
  if (hasNext(dataDir) && existsSync(authorityFiles(dataDir, 'next').rootKey))
    findings.push(
      warn(
        'next root key',
        `${authorityFiles(dataDir, 'next').rootKey} is on this machine`,
        'keep it offline: copy it to two safe places and remove it here',
      ),
    )
  const old = rootFingerprint(openAuthority(dataDir).rootCertificate)
  const days = 30
  const many =
    storage === undefined ? 0 : await countRootUsers(storage.db, old, addSeconds(now, -days * 86_400))
  const advice =
    many > 0 ? 'give them new media: pawl root show names them' : 'pawl root cut-over ends the rotation'
  findings.push(
    warn(
      check,
      `both roots are served; ${many} nodes booted by the old one in the last ${days} days`,
      advice,
    ),
  )
  return findings
}

/** The operator's own certificates, where a listener has them: judged as the server does when it takes them. */
export function ownCertificates(
  subject: Subject,
  kind: 'boot' | 'operator',
  names: readonly string[],
): Finding[] | undefined {
  const files = ownFiles(subject, kind)
  if (files === undefined) return undefined
  const check = `${kind} certificate`
  let own: OwnCertificates
  try {
    own = readOwn(files)
  } catch (error) {
    return [failure(check, error)]
  }
  const [needed = '', ...others] = names
  const faults = faultsOf(own, { needed, others }, subject.now, { firmware: kind === 'boot' })
  const ends = own.certificates.map(({ leaf }) => leaf.validToDate.getTime())
  const end = new Date(Math.min(...ends)).toISOString().slice(0, 10)
  const all = own.certificates.map(({ certFile }) => certFile).join(' and ')
  return faults.length === 0
    ? [ok(check, `${all}: good until ${end}, ${rootWords(own)}`)]
    : faults.map((fault) => findingOf(check, fault))
}

function findingOf(check: string, { level, found, advice }: OwnFault): Finding {
  return (level === 'warn' ? warn : fail)(check, found, advice)
}

/** Where a listener's certificates of the operator's own are. */
export function ownFiles({ config }: Subject, kind: 'boot' | 'operator'): OwnFiles | undefined {
  const pairs =
    kind === 'boot'
      ? [
          [config.bootCertFile, config.bootKeyFile],
          [config.bootEcdsaCertFile, config.bootEcdsaKeyFile],
        ]
      : [[config.operatorCertFile, config.operatorKeyFile]]
  const caFile = kind === 'boot' ? config.bootCaFile : config.operatorCaFile
  const given = pairs.flatMap(([certFile, keyFile]) =>
    certFile === undefined || keyFile === undefined ? [] : [{ certFile, keyFile }],
  )
  return given.length === 0 || caFile === undefined ? undefined : { pairs: given, caFile }
}
