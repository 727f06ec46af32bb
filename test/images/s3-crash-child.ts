/** Stores one artifact in S3; the settings come on standard input. Run, and killed, by s3-suite.ts. */
import { Readable } from 'node:stream'
import { json } from 'node:stream/consumers'
import { digestOf } from '../../src/domain/digest.ts'
import { storeOver } from '../../src/images/artifacts.ts'
import type { S3Settings } from '../../src/images/s3-client.ts'
import { openS3Shelf } from '../../src/images/s3-store.ts'
import { openSpool } from '../../src/images/spool.ts'

const { size, fill, ...settings } = (await json(process.stdin)) as S3Settings & { size: number; fill: string }
const bytes = Buffer.alloc(size, fill)
const store = storeOver(await openS3Shelf(settings), await openSpool(process.argv[2] ?? ''))
await store.put(digestOf(bytes), Readable.from([bytes]), { sender: 'ci', size })
