import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import t from 'tap'
import type { Io } from '../../src/cli/io.ts'
import { runCli } from '../../src/cli/main.ts'
import { appendEvent } from '../../src/storage/events.ts'
import { demoProfile, storeNode, storeProfile } from '../helpers/fleet.ts'
import { forEachDatabase, type World } from '../helpers/world.ts'
import { type Installation, local, openInstallation } from './helpers/installation.ts'

const quick = { pauseMilliseconds: 5, pollMilliseconds: 100, heartbeatMilliseconds: 50 }

async function append(world: World, node: string): Promise<void> {
  await world.context.storage.transaction((tx) =>
    appendEvent(tx, {
      ...{ kind: 'asked-while-held', at: world.clock.now(), node, session: null },
      ...{ actor: 'node', source: '192.0.2.1', detail: {} },
    }),
  )
}

interface Running {
  readonly exit: Promise<number>
  /** Resolves with all that was said when it fits. */
  until(pattern: RegExp): Promise<string>
  readonly stderr: () => string
  readonly stdout: PassThrough
  interrupt(): void
}

/** A command that goes on until it is told to stop, as a terminal or a pipe has it. */
function start(
  { dataDir, world }: Installation,
  argv: string[],
  size?: { columns: number; rows: number },
): Running {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  let said = ''
  stdout.on('data', (chunk: Buffer) => {
    said += String(chunk).replaceAll('\u001b', '^[')
  })
  let told = ''
  stderr.on('data', (chunk: Buffer) => {
    told += String(chunk)
  })
  let interrupt = (): void => {}
  const isTTY = size !== undefined
  const io: Io = {
    ...{ argv, env: { PAWL_DATA: dataDir, NO_COLOR: '1' }, stdin: Readable.from([]), stdout, stderr },
    now: world.clock.now,
    isTTY: { stdout: isTTY, stderr: isTTY },
    ...(size === undefined ? {} : { columns: size.columns, size: () => size }),
    onInterrupt: (listener) => {
      interrupt = listener
      return () => {}
    },
  }
  const exit = runCli(io, local)
  return {
    exit,
    stdout,
    async until(pattern) {
      while (!pattern.test(said)) await once(stdout, 'data')
      return said
    },
    stderr: () => told,
    interrupt: () => interrupt(),
  }
}

await forEachDatabase(t, async (t, openWorld) => {
  if (t.name === 'on PostgreSQL') {
    t.pass('test/http/event-stream.test.ts has both')
    return
  }
  const opened = (t: Parameters<typeof openInstallation>[0]): Promise<Installation> =>
    openInstallation(t, openWorld, { streams: quick })

  await t.test(
    'event list --follow goes on behind a restart of the server, without loss or repeat',
    async (t) => {
      const installation = await opened(t)
      const { world } = installation
      for (const node of ['old1', 'old2']) await append(world, node)
      const running = start(installation, [
        'event',
        'list',
        '--follow',
        '--since',
        '1h',
        '--kind',
        'asked-while-held',
        '--json',
      ])
      await running.until(/old2/)
      await append(world, 'new1')
      await running.until(/new1/)
      await installation.stop()
      await append(world, 'new2')
      await installation.restart()
      await append(world, 'new3')
      const said = await running.until(/new3/)
      running.interrupt()
      t.equal(await running.exit, 0, 'ends cleanly with Ctrl-C')
      t.same(
        said
          .trim()
          .split('\n')
          .map((line) => (JSON.parse(line) as { node: string }).node),
        ['old1', 'old2', 'new1', 'new2', 'new3'],
        'one document a line',
      )
    },
  )

  await t.test('event list --follow ends with its reader, and where the server says so', async (t) => {
    const installation = await opened(t)
    const { world } = installation
    await append(world, 'one')
    const running = start(installation, ['event', 'list', '--follow'])
    t.match(
      await running.until(/one/),
      /^2026-11-21 06:00:00Z {2}- .*\n2026-11-21 06:00:00Z {2}one +asked-while-held +asked for stage 1 while held \(from 192.0.2.1\)\n$/,
    )
    running.stdout.emit('error', Object.assign(new Error('gone'), { code: 'EPIPE' }))
    t.equal(await running.exit, 0)
    const other = start(installation, ['event', 'list', '--follow'])
    await other.until(/one/)
    await world.context.storage.db
      .updateTable('operators')
      .set({ revoked_at: '2026-11-21T06:00:00.000Z' })
      .execute()
    await installation.restart()
    t.equal(await other.exit, 1)
    t.match(
      other.stderr(),
      /error: the server does not know this operator token|error: the operator token was revoked/,
    )
  })

  await t.test('node watch says what changes, and --until has an exit code for scripts', async (t) => {
    const installation = await opened(t)
    const { world, run } = installation
    const { db } = world.context.storage
    const become = async (name: string, columns: Record<string, unknown>): Promise<void> => {
      await db.updateTable('nodes').set(columns).where('name', '=', name).execute()
      await append(world, name)
    }
    await storeProfile(world, demoProfile)
    for (const name of ['a', 'b']) await storeNode(world, { name })
    t.match(await run(['node', 'watch', 'c']), { exit: 1, stderr: /node "c" does not exist/ })
    t.match(await run(['node', 'watch', '--timeout', '1s']), { exit: 2, stderr: /--timeout without --until/ })
    const running = start(installation, ['node', 'watch', 'a', 'b', '--until', 'ready'])
    await running.until(/b {2}registered/)
    await become('a', { state: 'ready', reinstall: 'marked' })
    await running.until(/a {2}ready {2}reinstall marked/)
    await become('b', { state: 'ready' })
    await running.until(/b {2}ready/)
    await become('a', { reinstall: 'none' })
    t.equal(await running.exit, 0, 'a mark for reinstall is not ready')
    t.match(await run(['node', 'watch', '--until', 'ready', '--json']), {
      exit: 0,
      stdout: /^{"name":"a".*}\n{"name":"b".*}\n$/,
    })
    await become('b', { state: 'failed', failure_cause: 'reported' })
    t.match(await run(['node', 'watch', '--until', 'ready', '--timeout', '4s']), {
      exit: 1,
      stderr: /error: not in time: 1 of 2 nodes not ready: b \(failed, reported\)\n/,
    })
    await become('b', { state: 'held', failure_cause: null })
    t.match(await run(['node', 'watch', '--until', 'ready']), {
      exit: 1,
      stderr: /1 of 2 nodes not ready: b \(held\)\nhint: a held/,
    })
  })

  await t.test('on a terminal the table is drawn in its place, as large as the terminal is', async (t) => {
    const installation = await opened(t)
    const { world } = installation
    await storeProfile(world, demoProfile)
    for (const name of ['a', 'b', 'c', 'd-with-a-name-that-is-long-for-so-narrow-a-terminal'])
      await storeNode(world, { name })
    const running = start(installation, ['node', 'watch'], { columns: 40, rows: 7 })
    const first = await running.until(/and 1 more\n/)
    t.match(first, /^\^\[\[\?25l\^\[\[2K4 nodes: 4 registered/)
    await world.context.storage.db
      .updateTable('nodes')
      .set({ state: 'failed', failure_cause: 'expired' })
      .where('name', 'like', 'd%')
      .execute()
    await append(world, 'a')
    const second = (await running.until(/failed/)).slice(first.length)
    t.match(second, /^\^\[\[6A\r\^\[\[2K4 nodes: 3 registered, 1 failed/, 'over the lines before')
    t.match(second, /d-with-a-name.* +failed/, 'what needs eyes comes first')
    for (const line of second.replace(/\^\[\[[0-9?]*[A-Za-z]|\r/g, '').split('\n'))
      t.ok(line.length <= 40, line)
    running.interrupt()
    t.equal(await running.exit, 0)
    t.match(await running.until(/\^\[\[\?25h$/), /\^\[\[\?25h$/, 'the cursor is shown again')
  })
})
