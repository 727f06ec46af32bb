import { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { authorityFiles, openAuthority } from '../pki/authority.ts'
import { findPublicFile, findSecretFile } from '../pki/key-file.ts'
import { settingsKey } from '../pki/settings-key.ts'
import { keyFits } from '../pki/x509.ts'
import { days, type Finding, fail, failure, ok, type Subject, warn } from './finding.ts'

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
  for (const kind of ['boot', 'operator'] as const) findings.push(leaf(kind, issuing, subject))
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

function leaf(kind: 'boot' | 'operator', issuing: X509Certificate, subject: Subject): Finding {
  const check = `${kind} certificate`
  const file = join(authorityFiles(subject.dataDir).folder, `${kind}.pem`)
  const text = findSecretFile(file)
  if (text === undefined) return ok(check, 'is made when the server starts')
  const again = `move ${file} away and restart the server: it makes a new one`
  const begin = text.indexOf('-----BEGIN CERTIFICATE-----')
  if (begin < 0) return fail(check, `${file} holds no certificate`, again)
  const certificate = new X509Certificate(text.slice(begin))
  if (!keyFits(certificate, text.slice(0, begin))) return fail(check, `${file}: the key is another's`, again)
  if (!certificate.verify(issuing.publicKey)) return fail(check, `${file} is not of this CA`, again)
  const lacking = namesOf(subject).filter((name) => !isFor(certificate, name))
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
function namesOf({ config, hostName }: Subject): string[] {
  const url = config.publicUrl === undefined ? hostName : new URL(config.publicUrl).hostname
  return [url.replace(/^\[|\]$/g, ''), ...config.names]
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
  const files = ['admin.token', 'publisher.key', 'pki/root.key', 'pki/issuing.key', 'pki/settings.key']
  for (const name of [...files, 'pki/boot.pem', 'pki/operator.pem', 'pki/checkpoint.key']) {
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
