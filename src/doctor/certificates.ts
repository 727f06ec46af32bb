import { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { openAuthority } from '../pki/authority.ts'
import { hasClientAuthority, openClientAuthority } from '../pki/client-authority.ts'
import { findPublicFile, findSecretFile } from '../pki/key-file.ts'
import { authorityFiles, type Generation } from '../pki/places.ts'
import { settingsKey } from '../pki/settings-key.ts'
import { keyFits } from '../pki/x509.ts'
import { days, type Finding, fail, failure, ok, type Subject, warn } from './finding.ts'
import { mainGeneration, ownCertificates } from './roots.ts'

const day = 86_400_000
/** A new CA takes new media, a new publisher new stage-2 images: there must be time for it. */
const soon = { root: 365 * day, issuing: 180 * day, publisher: 30 * day, leaf: 14 * day }

/** The CA with its chain, and the certificate of each listener. */
export function certificates(subject: Subject): Finding[] {
  const { dataDir } = subject
  const authority = openAuthority(dataDir) // throws where something is missing or does not fit
  const [root, issuing] = [authority.rootCertificate, authority.issuingCertificate].map(
    (pem) => new X509Certificate(pem),
  ) as [X509Certificate, X509Certificate]
  const findings = [
    lifetime('root certificate', root, soon.root, subject, 'a new root means new boot media: plan it now'),
    lifetime(
      'issuing certificate',
      issuing,
      soon.issuing,
      subject,
      'bring pki/root.key back, move pki/issuing.* away and run pawl init',
    ),
    authority.rootKeyIsHere()
      ? warn(
          'root key',
          `${authorityFiles(dataDir).rootKey} is on this machine`,
          'keep it offline: copy it to two safe places and remove it here; it is needed again only for a new issuing certificate',
        )
      : ok('root key', 'is not on this machine'),
  ]
  findings.push(...leaves(subject), ...clientAuthorities(dataDir))
  const publisher = findPublicFile(join(dataDir, 'publisher.crt'))
  if (publisher !== undefined) {
    const advice = 'move publisher.key and publisher.crt away and run pawl init: it makes new ones'
    findings.push(
      lifetime(
        'publisher certificate',
        new X509Certificate(publisher),
        soon.publisher,
        subject,
        advice,
        true,
      ),
    )
  }
  return findings
}

/** What is wrong with the CAs of client certificates: the server would not start. One that is not there yet is made then. */
function clientAuthorities(dataDir: string): Finding[] {
  return (['operator', 'node'] as const).flatMap((kind) => {
    try {
      if (hasClientAuthority(dataDir, kind)) openClientAuthority(dataDir, kind)
      return []
    } catch (error) {
      return [failure(`CA of ${kind}s`, error)]
    }
  })
}

/** What each listener has: certificates of the operator's own, or ours; of two CAs while the root is rotated. */
function leaves(subject: Subject): Finding[] {
  const { config, hostName } = subject
  const names = namesOf(config.publicUrl, subject)
  const main = mainGeneration(subject)
  const boot = { generation: main, names } as const
  const findings = ownCertificates(subject, 'boot', names) ?? [
    leaf({ ...boot, check: 'boot certificate', file: 'boot.pem' }, subject),
    ...(config.bootEcdsa === 'on'
      ? [leaf({ ...boot, check: 'boot certificate (ECDSA)', file: 'boot-ecdsa.pem' }, subject)]
      : []),
  ]
  const isTwo = config.oldBootListen !== undefined && (main === 'next' || config.bootCertFile !== undefined)
  if (isTwo) {
    const old = { generation: 'current', names: namesOf(config.oldPublicUrl, subject) } as const
    findings.push(leaf({ ...old, check: 'old boot certificate', file: 'boot.pem' }, subject))
  }
  const url = config.operatorUrl ?? config.publicUrl
  const called = url === undefined ? hostName : hostOf(url)
  const operator = {
    generation: 'current',
    names,
    check: 'operator certificate',
    file: 'operator.pem',
  } as const
  return [...findings, ...(ownCertificates(subject, 'operator', [called]) ?? [leaf(operator, subject)])]
}

/** A certificate that a CA of ours made for a listener. */
interface OurLeaf {
  readonly check: string
  readonly file: string
  readonly generation: Generation
  readonly names: readonly string[]
}

function leaf({ check, file: name, generation, names }: OurLeaf, subject: Subject): Finding {
  const { folder, issuingCertificate } = authorityFiles(subject.dataDir, generation)
  const issuing = new X509Certificate(findPublicFile(issuingCertificate) ?? '')
  const file = join(folder, name)
  const text = findSecretFile(file)
  if (text === undefined) return ok(check, 'is made when the server starts')
  const again = `move ${file} away and restart the server: it makes a new one`
  const begin = text.indexOf('-----BEGIN CERTIFICATE-----')
  if (begin < 0) return fail(check, `${file} holds no certificate`, again)
  const certificate = new X509Certificate(text.slice(begin))
  if (!keyFits(certificate, text.slice(0, begin))) return fail(check, `${file}: the key is another's`, again)
  if (!certificate.verify(issuing.publicKey)) return fail(check, `${file} is not of this CA`, again)
  const lacking = names.filter((name) => !isFor(certificate, name))
  if (lacking.length > 0) {
    return fail(
      check,
      `is not for ${lacking.join(', ')}`,
      'restart the server: it makes one with the names of the settings',
    )
  }
  const restart = 'restart the server: it renews its certificates; if it runs, its log says why it did not'
  return lifetime(check, certificate, soon.leaf, subject, restart)
}

/** What machines and operators call this server by, as far as the settings say. */
function namesOf(url: string | undefined, { config, hostName }: Subject): string[] {
  return [url === undefined ? hostName : hostOf(url), ...config.names]
}

function hostOf(url: string): string {
  return new URL(url).hostname.replace(/^\[|\]$/g, '')
}

function isFor(certificate: X509Certificate, name: string): boolean {
  return (
    (isIP(name) === 0 ? certificate.checkHost(name, { subject: 'never' }) : certificate.checkIP(name)) !==
    undefined
  )
}

function lifetime(
  check: string,
  { validFromDate, validToDate }: X509Certificate,
  margin: number,
  { now }: Subject,
  advice: string,
  mild = false,
): Finding {
  const left = validToDate.getTime() - now.getTime()
  const end = validToDate.toISOString().slice(0, 10)
  if (validFromDate > now) {
    const begins = validFromDate.toISOString()
    return fail(
      check,
      `is not good before ${begins}`,
      'is the clock right? Boot firmware refuses it until then',
    )
  }
  if (left <= 0) return (mild ? warn : fail)(check, `has ended on ${end}`, advice)
  if (left < margin) return warn(check, `ends on ${end}, in ${days(left)}`, advice)
  return ok(check, `good until ${end}`)
}

/** Files that nobody else may read, and without which something is lost. */
export function keys(subject: Subject): Finding[] {
  const { dataDir } = subject
  const findings: Finding[] = []
  const pki = authorityFiles(dataDir).folder
  const clients = ['pki/clients.key', 'pki/nodes.key']
  const files = ['admin.token', 'publisher.key', 'pki/root.key', 'pki/issuing.key', 'pki/settings.key']
  const next = ['root.key', 'issuing.key', 'boot.pem', 'boot-ecdsa.pem'].map((name) => `pki/next/${name}`)
  for (const name of [
    ...files,
    ...clients,
    ...next,
    'pki/boot.pem',
    'pki/boot-ecdsa.pem',
    'pki/operator.pem',
    'pki/checkpoint.key',
  ]) {
    try {
      findSecretFile(join(dataDir, name))
    } catch (error) {
      findings.push(failure('key file', error))
    }
  }
  try {
    settingsKey(dataDir)
  } catch (error) {
    if (!existsSync(join(pki, 'settings.key'))) findings.push(failure('settings key', error))
  }
  return findings.length > 0 ? findings : [ok('key files', 'only their owner can read them')]
}
