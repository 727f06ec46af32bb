import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { type Api, openApi, type UploadPart } from '../../src/cli/api.ts'
import { hashFile, type ImageFile } from '../../src/cli/image-files.ts'
import type { Io } from '../../src/cli/io.ts'
import { sendArtifact } from '../../src/cli/send-artifact.ts'
import { type ErrorCode, PawlError } from '../../src/errors.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'
import { startTcpProxy } from '../boot/helpers/tcp-proxy.ts'
import { forEachDatabase, type OpenWorld } from '../helpers/world.ts'
import { openInstallation, temporaryFolder } from './helpers/installation.ts'

/** A file to send, and what the command says of it on a pipe. */
async function fileOf(t: Test, bytes: Buffer): Promise<{ file: ImageFile; io: Io; said: () => string }> {
  const path = join(temporaryFolder(t), 'kernel')
  writeFileSync(path, bytes)
  const stderr = new PassThrough()
  const io: Io = {
    argv: [],
    env: {},
    stdin: Readable.from([]),
    stdout: new PassThrough(),
    stderr,
    now: () => new Date(0),
    isTTY: { stdout: false, stderr: false },
  }
  return { file: await hashFile('kernel', path, () => {}), io, said: () => String(stderr.read() ?? '') }
}

/** A server that has so much at each HEAD, and answers the uploads so; it writes down what it was sent, and the pauses. */
function serverOf(has: (number | 'whole' | ErrorCode)[], answers: (ErrorCode | 'taken')[]) {
  const log: unknown[] = []
  const fail = (code: ErrorCode) => new PawlError(code, `it is ${code}`)
  const api = {
    sent: async () => {
      const next = has.shift() ?? 0
      if (typeof next === 'string' && next !== 'whole') throw fail(next)
      return { whole: next === 'whole', bytes: next === 'whole' ? 14 : next }
    },
    upload: async (_path: string, body: Readable, { offset, size }: UploadPart) => {
      let bytes = ''
      for await (const chunk of body) bytes += String(chunk)
      log.push([offset, size, bytes])
      const answer = answers.shift() ?? 'internal'
      if (answer !== 'taken') throw fail(answer)
    },
  }
  const pause = async (milliseconds: number) => {
    log.push(milliseconds)
  }
  return { api: api as unknown as Api, pause, log } // the two calls that are made
}

const bytes = Buffer.from('a small kernel')

t.test('what no other try would change is told at once', async (t) => {
  for (const code of [
    'forbidden',
    'unauthenticated',
    'too-large',
    'disk-full',
    'digest-mismatch',
    'invalid',
  ] as const) {
    const { file, io, said } = await fileOf(t, bytes)
    const { api, pause, log } = serverOf([0], [code])
    await t.rejects(sendArtifact(api, io, file, { pause }), { code })
    t.strictSame([log, said()], [[[0, 14, 'a small kernel']], ''])
  }
})

t.test(
  'a connection that broke is tried again with pauses that grow, from what the server has',
  async (t) => {
    const { file, io, said } = await fileOf(t, bytes)
    const { api, pause, log } = serverOf(
      [0, 5, 'unreachable', 9],
      ['unreachable', 'overloaded', 'conflict', 'taken'],
    )
    await sendArtifact(api, io, file, { pause })
    t.strictSame(log, [
      [0, 14, 'a small kernel'],
      1000,
      [5, 14, 'll kernel'],
      1000, // it had come further
      [5, 14, 'll kernel'],
      2000,
      [9, 14, 'ernel'],
    ])
    t.equal(
      said(),
      [
        'kernel: it is unreachable: trying again in 1 s\n',
        'kernel: it is overloaded: trying again in 1 s\n',
        'kernel: it is conflict: trying again in 2 s\n',
        'kernel: 14 B, sent\n',
      ].join(''),
    )
  },
)

t.test('gives up after six tries that moved nothing', async (t) => {
  const { file, io } = await fileOf(t, bytes)
  const { api, pause, log } = serverOf([], Array(9).fill('unreachable'))
  await t.rejects(sendArtifact(api, io, file, { pause }), { code: 'unreachable' })
  t.strictSame(
    log.filter((entry) => typeof entry === 'number'),
    [1000, 2000, 4000, 8000, 16_000],
  )
})

t.test('a beginning at the server that was not this file’s is sent again from 0', async (t) => {
  const { file, io } = await fileOf(t, bytes)
  const { api, pause, log } = serverOf([5, 0], ['digest-mismatch', 'taken'])
  await sendArtifact(api, io, file, { pause })
  t.strictSame(log, [[5, 14, 'll kernel'], 0, [0, 14, 'a small kernel']])

  const more = serverOf([20], ['taken'])
  await sendArtifact(more.api, io, file, { pause: more.pause })
  t.strictSame(more.log, [[0, 14, 'a small kernel']], 'and so is one that is too long')
})

t.test('sends nothing of what is there, and nothing but the end of what arrived', async (t) => {
  const { file, io, said } = await fileOf(t, bytes)
  const whole = serverOf(['whole'], [])
  await sendArtifact(whole.api, io, file, { pause: whole.pause })
  const arrived = serverOf([14], ['taken'])
  await sendArtifact(arrived.api, io, file, { pause: arrived.pause })
  t.strictSame([whole.log, arrived.log], [[], [[14, 14, '']]])
  t.equal(said(), 'kernel: 14 B, there already\nkernel: 14 B, sent, 14 B of it earlier\n')
  const meanwhile = serverOf([0, 'whole'], ['conflict'])
  await sendArtifact(meanwhile.api, io, file, { pause: meanwhile.pause })
  t.equal(meanwhile.log.length, 2, 'another job sent it while this one waited')
})

await forEachDatabase(t, async (t, openWorld) => {
  if (t.name === 'on PostgreSQL') t.pass('the command line does not see which database it is')
  else await t.test('goes on over a connection that is cut in the middle', (t) => overProxy(t, openWorld))
})

async function overProxy(t: Test, openWorld: OpenWorld): Promise<void> {
  const pawl = await openInstallation(t, openWorld)
  const proxy = await startTcpProxy(Number(new URL(pawl.url).port))
  const ca = readFileSync(join(pawl.dataDir, 'ca.crt'), 'utf8')
  const url = `https://127.0.0.1:${proxy.port}`
  const api = openApi({ url, token: pawl.token, ca, whenUnreachable: '', whenUnknown: '' })
  t.teardown(() => {
    api.close()
    return proxy.close()
  })
  const { file, io, said } = await fileOf(t, Buffer.alloc(24 * 2 ** 20, 'kernel'))
  const parts: UploadPart[] = []
  const cutting: Api = {
    ...api,
    upload: async (path, body, part) => {
      parts.push(part)
      let passed = 0
      body.on('data', (chunk: Buffer) => {
        passed += chunk.length
        if (parts.length <= 2 && passed > 12 * 2 ** 20) proxy.cut()
      })
      return api.upload(path, body, part)
    },
  }
  await sendArtifact(cutting, io, file, { pause: () => new Promise(setImmediate) })
  const offsets = parts.map(({ offset }) => offset)
  t.equal(offsets[0], 0)
  t.ok((offsets.at(-1) ?? 0) > 2 ** 20, `it went on from ${offsets}`)
  t.match(said(), /^kernel: the server at .* does not answer: the connection was cut: trying again in 1 s\n/)
  const store = await openArtifactStore(join(pawl.dataDir, 'artifacts'))
  t.equal(await store.verify(file.digest), 24 * 2 ** 20)
}
