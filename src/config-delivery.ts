import { named, type Setting } from './config-setting.ts'
import { parseFile, ValueFault, wholeNumber, zeroOr } from './config-values.ts'

const gigabyte = 1_000_000_000

/** How the bytes of images get to machines (docs/delivery.md). */
export const deliverySettings = {
  artifactRedirectUrl: {
    ...named('artifact-redirect-url', 'URL', null),
    meaning:
      'Where else artifacts are, as `URL/sha256/DIGEST`, open to everyone: an object store or CDN. Profiles with `redirects: true` send machines there. Takes the place of signed S3 URLs.',
    parse: parseBaseUrl,
  },
  artifactCaFile: {
    ...named('artifact-ca-file', 'file', null),
    meaning:
      'The CA of `artifactRedirectUrl` and of caches named by `artifactBase`, PEM, for machines. Without it they trust our root alone.',
    parse: parseFile,
  },
  accelRedirectPath: {
    ...named('accel-redirect-path', 'word', null),
    meaning:
      'The internal location of an nginx that ends TLS before the boot listener and can read the artifacts itself, like `/pawl-artifacts/`. Only proxies of `trustedProxies` that send `Pawl-Accel: nginx` are answered with it.',
    parse: parseInternalPath,
  },
  downloadBytesPerSecond: {
    ...named('download-bytes-per-second', 'bytes', '0'),
    meaning:
      'What all downloads of this server together may take, in equal shares; each of `workers` has its part of it. Stage requests are not counted. 0: no limit.',
    parse: zeroOr(1_000_000, 100 * gigabyte),
  },
  nodeDownloadBytesPerSecond: {
    ...named('node-download-bytes-per-second', 'bytes', '0'),
    meaning:
      'What the downloads of one node may take, in each process; of downloads by digest, those of one address. 0: no limit.',
    parse: zeroOr(65_536, 100 * gigabyte),
  },
  artifactDiskCacheMiB: {
    ...named('artifact-disk-cache-mib', 'MiB', '10240'),
    meaning:
      'Disk space in the data folder for artifacts of an object storage that machines fetch from here. 0: each is fetched again when it is not in memory.',
    parse: wholeNumber(0, 16 * 1024 * 1024),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>

/** Reads a URL that a path is added to; without a user, since scripts, events and logs show it. */
function parseBaseUrl(text: string): string {
  const pattern =
    /^https?:\/\/(?:[A-Za-z0-9.-]*[A-Za-z0-9]|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?(?:\/[A-Za-z0-9._~-]+)*\/?$/
  if (!pattern.test(text) || !URL.canParse(text) || new URL(text).port === '0')
    throw new ValueFault('https://HOST[:PORT][/PATH] or http://…, without user or query')
  return text.replace(/\/$/, '')
}

function parseInternalPath(text: string): string {
  if (!/^(?:\/[A-Za-z0-9_-]{1,64}){1,4}\/$/.test(text))
    throw new ValueFault(
      'a path of letters and digits that begins and ends with a slash, like /pawl-artifacts/',
    )
  return text
}
