import { spawn } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import type { S3Settings } from '../../src/images/s3-client.ts'
import { freePort } from './ports.ts'

/** A Ceph cluster of one with an S3 gateway, of this test process alone. */
export interface Radosgw {
  /** Makes an empty bucket; returns how to reach it. */
  createBucket(): Promise<
    S3Settings & { endpoint: string; credentials: { accessKeyId: string; secretAccessKey: string } }
  >
}

let running: Promise<Radosgw> | undefined

/** The Debian packages that it takes, with one file of each that shows that it is there. */
export const radosgwPackages = {
  'ceph-common': '/usr/bin/ceph',
  'ceph-mon': '/usr/bin/ceph-mon',
  'ceph-osd': '/usr/bin/ceph-osd',
  radosgw: '/usr/bin/radosgw',
  curl: '/usr/bin/curl',
} as const
const credentials = { accessKeyId: 'PAWLTESTACCESSKEY', secretAccessKey: 'a-secret-key-that-no-log-may-show' }

/** Why S3 suites cannot run here; undefined where they can. With PAWL_REQUIRE=all its absence is a failure. */
export function radosgwAbsent(): string | undefined {
  const missing = Object.entries(radosgwPackages).filter(([, file]) => !existsSync(file))
  return missing.length === 0
    ? undefined
    : `radosgw is not installed (${missing.map(([name]) => name).join(', ')})`
}

/** Starts a cluster in a temporary folder, once for the process; that takes 20 s. It ends with the process, however that ends. */
export function startRadosgw(): Promise<Radosgw> {
  running ??= start()
  return running
}

async function start(): Promise<Radosgw> {
  const absent = radosgwAbsent()
  if (absent !== undefined) throw new Error(`${absent}, and PAWL_REQUIRE=all wants it`)
  const folder = mkdtempSync(join(tmpdir(), 'pawl-rgw-'))
  const as = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  if (as.uid !== undefined) chownSync(folder, as.uid, as.gid)
  const [monitor, port] = [await freePort(), await freePort()]
  await serve(folder, [folder, String(monitor), String(port)], as)
  const endpoint = `http://127.0.0.1:${port}`
  const client = new S3Client({ region: 'us-east-1', endpoint, forcePathStyle: true, credentials })
  let made = 0
  return {
    async createBucket() {
      made += 1
      const bucket = `bucket-${made}`
      await client.send(new CreateBucketCommand({ Bucket: bucket }))
      return { bucket, prefix: '', endpoint, region: 'us-east-1', addressing: 'path', credentials }
    },
  }
}

/** The script waits for its standard input to close, and stops: also when the test process is killed. */
function serve(folder: string, args: string[], as: { uid?: number; gid?: number }): Promise<void> {
  const { accessKeyId, secretAccessKey } = credentials
  const script = join(import.meta.dirname, 'radosgw.sh')
  const child = spawn('/bin/sh', [script, ...args, accessKeyId, secretAccessKey], {
    ...as,
    cwd: folder,
    env: { PATH: '/usr/bin:/bin' },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  return new Promise((resolve, reject) => {
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2000)
    })
    child.once('exit', () => reject(new Error(`radosgw did not start: ${said}`)))
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (!text.includes('ready')) return
      // Nothing here keeps the process alive: its end is what stops the cluster.
      child.unref()
      for (const stream of child.stdio) (stream as unknown as { unref(): void }).unref()
      resolve()
    })
  })
}
