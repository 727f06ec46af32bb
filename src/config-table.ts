import { bootSettings } from './config-boot.ts'
import { certificateSettings } from './config-certificates.ts'
import { deliverySettings } from './config-delivery.ts'
import { evidenceSettings } from './config-evidence.ts'
import { extensionSettings } from './config-extensions.ts'
import { frontSettings } from './config-front.ts'
import { identitySettings } from './config-identity.ts'
import { joiningSettings } from './config-joining.ts'
import { limitSettings } from './config-limits.ts'
import { metricsSettings } from './config-metrics.ts'
import { paceSettings } from './config-pace.ts'
import { replicaSettings } from './config-replicas.ts'
import { named, type Setting } from './config-setting.ts'
import { signInSettings } from './config-sign-in.ts'
import { tftpSettings } from './config-tftp.ts'
import { timelineSettings } from './config-timeline.ts'
import { traceSettings } from './config-traces.ts'
import {
  oneOf,
  parseArtifacts,
  parseDatabase,
  parseEndpoint,
  parseFile,
  parseListen,
  parseLogLevel,
  parseName,
  parseNetwork,
  parsePath,
  parseProxy,
  parsePublicUrl,
  parseRegion,
  wholeNumber,
  zeroOr,
} from './config-values.ts'
import { workerSettings } from './config-workers.ts'
import { minRetentionDays } from './domain/retention.ts'

export type { Setting } from './config-setting.ts'

const day = 86_400
const mebibyte = 1024 * 1024
const gibibyte = 1024 * mebibyte

/** Every setting, once. `docs/configuration.md` has the same table for readers; a test compares the two. */
export const settings = {
  dataDir: {
    flag: '--data',
    env: 'PAWL_DATA',
    unit: 'path',
    default: 'pawl-data',
    meaning: 'Folder of the CA, keys, database and images. Mode 0700.',
    parse: parsePath,
    notInFile: true,
  },
  bootListen: {
    ...named('boot-listen', 'HOST:PORT', '[::]:8443'),
    meaning: 'Where machines are served. `[::]` takes IPv4 too. Port 0 picks one.',
    parse: parseListen,
  },
  operatorListen: {
    ...named('operator-listen', 'HOST:PORT', '127.0.0.1:8444'),
    meaning: 'Where operators are served.',
    parse: parseListen,
  },
  ...tftpSettings,
  publicUrl: {
    ...named('public-url', 'URL', null),
    meaning:
      'How machines reach the boot listener. Every URL in a script begins with it. Without it: `https://`, the host name and the boot port.',
    parse: parsePublicUrl,
  },
  names: {
    flag: '--name',
    env: 'PAWL_NAMES',
    unit: 'name',
    default: null,
    meaning: 'More host names and IP addresses for the certificates. May be repeated.',
    parse: parseName,
    many: true,
  },
  ...certificateSettings,
  ...joiningSettings,
  ...identitySettings,
  database: {
    ...named('database', 'URL', null),
    meaning:
      'A file for SQLite, or a `postgres://` URL, which may name several hosts. Without it: `pawl.db` in the data folder. A flag shows its password to every user of the machine: use the file or the variable.',
    parse: parseDatabase,
    secret: true,
  },
  artifacts: {
    ...named('artifacts', 'URL', null),
    meaning:
      'Where images’ files are kept: a folder, or `s3://BUCKET[/PREFIX]`. Without it: `artifacts` in the data folder.',
    parse: parseArtifacts,
  },
  s3Endpoint: {
    ...named('s3-endpoint', 'URL', null),
    meaning: 'The S3-compatible object storage. Without it: AWS.',
    parse: parseEndpoint,
  },
  s3PublicEndpoint: {
    ...named('s3-public-endpoint', 'URL', null),
    meaning: 'The same as machines reach it, for profiles with `redirects: true`. Without it: `s3Endpoint`.',
    parse: parseEndpoint,
  },
  s3Region: {
    ...named('s3-region', 'name', 'us-east-1'),
    meaning: 'Its region, which signatures name.',
    parse: parseRegion,
  },
  s3Addressing: {
    ...named('s3-addressing', 'word', 'path'),
    meaning: 'Where a URL names the bucket: `path` or `host`.',
    parse: oneOf('path', 'host'),
  },
  s3CredentialsFile: {
    ...named('s3-credentials-file', 'file', null),
    meaning:
      'A file (0600) with lines `aws_access_key_id = …` and `aws_secret_access_key = …`. Without it: the SDK’s own places, such as `AWS_ACCESS_KEY_ID` or the role of the machine.',
    parse: parseFile,
  },
  s3CaFile: {
    ...named('s3-ca-file', 'file', null),
    meaning:
      'The CA of its certificate, PEM, for the server and for machines. Without it: the system’s CAs; for machines ours.',
    parse: parseFile,
  },
  ...deliverySettings,
  trustedProxies: {
    ...named('trusted-proxies', 'address', null),
    meaning: 'Addresses and prefixes of proxies whose `X-Forwarded-For` is believed. Without it: nobody.',
    parse: parseProxy,
    many: true,
  },
  ...frontSettings,
  ...evidenceSettings,
  ...signInSettings,
  logLevel: {
    ...named('log-level', 'word', 'info'),
    meaning: 'The least important lines to log: trace, debug, info, warn, error, fatal or silent.',
    parse: parseLogLevel,
  },
  ...workerSettings,
  ...replicaSettings,
  ...timelineSettings,
  ...bootSettings,
  ...paceSettings,
  ...metricsSettings,
  refusalDiskReserveMiB: {
    ...named('refusal-disk-reserve-mib', 'MiB', '256'),
    meaning: 'With less free disk than this, refusals are not recorded any more, so that boots still are.',
    parse: wholeNumber(0, 1024 * 1024),
  },
  checkpointSeconds: {
    ...named('checkpoint-seconds', 'seconds', '3600'),
    meaning:
      'How often the state of the event log is signed, when something happened. 0: only with `pawl event checkpoint`.',
    parse: zeroOr(60, 30 * day),
  },
  checkpointDir: {
    ...named('checkpoint-dir', 'path', null),
    meaning:
      'A folder that gets a copy of each signed checkpoint, best on another machine. Without it they are in the database only.',
    parse: parsePath,
  },
  eventRetentionDays: {
    ...named('event-retention-days', 'days', '0'),
    meaning:
      'Events are removed after so many days, once a signed checkpoint covers them. 0: they are kept for ever.',
    parse: zeroOr(minRetentionDays, 36_500),
  },
  maxBootBodyBytes: {
    ...named('max-boot-body-bytes', 'bytes', '65536'),
    meaning: 'The largest body that a machine may send.',
    parse: wholeNumber(4096, mebibyte),
  },
  maxOperatorBodyBytes: {
    ...named('max-operator-body-bytes', 'bytes', '1048576'),
    meaning: 'The largest body that an operator may send, artifacts apart.',
    parse: wholeNumber(65_536, 64 * mebibyte),
  },
  maxArtifactBytes: {
    ...named('max-artifact-bytes', 'bytes', '8589934592'),
    meaning: 'The largest artifact that can be published.',
    parse: wholeNumber(mebibyte, 1024 * gibibyte),
  },
  maxUploadsMiB: {
    ...named('max-uploads-mib', 'MiB', '65536'),
    meaning:
      'Disk space for uploads that are not done, of all publishers. They leave `refusalDiskReserveMiB` free, too.',
    parse: wholeNumber(1, 16 * 1024 * 1024),
  },
  webhookAllowedNetworks: {
    ...named('webhook-allowed-networks', 'address', null),
    meaning:
      'Addresses and prefixes that webhooks may go to beside the public Internet, by `http://` too. May be repeated.',
    parse: parseNetwork,
    many: true,
  },
  ...extensionSettings,
  ...traceSettings,
  ...limitSettings,
  artifactCacheMiB: {
    ...named('artifact-cache-mib', 'MiB', '512'),
    meaning: 'Memory for artifacts that many machines fetch at once. 0 turns it off.',
    parse: wholeNumber(0, 1024 * 1024),
  },
  shutdownGraceSeconds: {
    ...named('shutdown-grace-seconds', 'seconds', '30'),
    meaning: 'How long requests under way may take to finish when the server is told to stop.',
    parse: wholeNumber(0, 3600),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>

/** The name of a setting. */
export type SettingName = keyof typeof settings
