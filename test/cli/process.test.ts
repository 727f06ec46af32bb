import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { prepared } from './helpers/installation.ts'

const root = join(import.meta.dirname, '../..')

/** Runs a line in a shell, where `pawl` is ours; resolves when it ends. */
async function shell(
  line: string,
  env: Record<string, string> = {},
): Promise<{ exit: number; said: string }> {
  const child = spawn('bash', ['-c', `pawl() { ${root}/bin/pawl "$@"; }; ${line}`], {
    env: { PATH: process.env.PATH ?? '', ...env },
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      said += String(chunk)
    })
  const [exit] = (await once(child, 'close')) as [number]
  return { exit, said }
}

await t.test('a pipe that is closed early is no fault', async (t) => {
  for (const line of [
    'pawl completion bash | head -n 1',
    'pawl --help | true',
    'pawl server --help | head -c 1',
  ]) {
    const { said } = await shell(`${line}; echo " \${PIPESTATUS[*]}"`)
    t.match(said, / 0 0\n$/, line)
    t.notMatch(said, /EPIPE|error/, line)
  }
})

await t.test('an interrupt ends a command at once, with 130', async (t) => {
  const { folder, tls } = await prepared()
  const asked = new Promise<void>((resolve) => {
    const silent = createServer(tls, () => resolve()).listen(0, '127.0.0.1')
    t.teardown(() => {
      silent.closeAllConnections()
      silent.close()
    })
    silent.once('listening', () => {
      port = (silent.address() as AddressInfo).port
      listening()
    })
  })
  let port = 0
  let listening = (): void => {}
  await new Promise<void>((resolve) => {
    listening = resolve
  })
  const env = {
    PATH: process.env.PATH ?? '',
    PAWL_URL: `https://127.0.0.1:${port}`,
    PAWL_TOKEN: 'A'.repeat(44),
    PAWL_CA: join(folder, 'ca.crt'),
  }
  const child = spawn(join(root, 'bin/pawl'), ['node', 'list'], { env })
  await asked
  child.kill('SIGINT')
  const [exit, signal] = (await once(child, 'close')) as [number | null, string | null]
  // A shell says 130 for what ended by SIGINT, as for what exits so itself.
  t.ok(signal === 'SIGINT' || exit === 130, `${exit} ${signal}`)
})
