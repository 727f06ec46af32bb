import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import t from 'tap'
import { until } from '../helpers/until.ts'
import { ensureDebianImage } from './helpers/artifacts.ts'
import { freePort } from './helpers/process.ts'
import { applyProfile, eventsOf, pawlLines, profile, startSite } from './helpers/site.ts'
import { debianPackages, ensureBootTools } from './helpers/tools.ts'

/** A whole Debian as stage 3: systemd, sshd, containerd. */
ensureBootTools(undefined, { ...debianPackages })
const site = await startSite()
t.teardown(() => site.stop())
const debian = await ensureDebianImage()

t.test('a machine boots Debian to ready, with host keys of its own that the server was told', async (t) => {
  const files = [
    '--kernel',
    debian.kernel,
    '--initramfs',
    debian.initramfs,
    '--filesystem',
    debian.filesystem,
    '--annotations',
    debian.annotations,
  ]
  await site.pawl('image', 'publish', 'debian@1', ...files, '--min-memory', '1536')
  const { manifest } = await site.pawl('image', 'show', 'debian@1')
  t.same(
    manifest.annotations,
    JSON.parse(readFileSync(debian.annotations, 'utf8')),
    'the manifest says what is in it',
  )
  await applyProfile(
    site,
    profile('quiet')
      .replaceAll(/pawl-stage3[@/]\w+/g, 'debian@1')
      .replace('pawl.after=poweroff ', '')
      .concat('identity: { audiences: [vault] }\n'),
  )
  const autoexec = await site.addNode('server')
  const sshPort = await freePort()
  const machine = await site.powerOn('server', autoexec, { memoryMiB: 2048, sshPort, timeoutSeconds: 1000 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: ready', 900)
  t.comment(pawlLines(machine))
  const console = machine.console()
  t.match(console, /^pawl: stage3: system is running: ssh active, containerd active/m, 'every unit started')
  t.notMatch(console, 'pawl: stage3: unit failed')
  t.match(console, /^pawl: stage3: unprivileged access to the boot listener is blocked/m)

  t.match(console, /^pawl: stage3: identity documents for vault/m)
  const documents = async (): Promise<unknown> =>
    (await site.pawl('identity', 'show', 'server')).items.map((item: { issued: number }) => item.issued)
  await until(t, documents, [2])
  t.pass('the unit that renews them has asked for the second')

  const keys = [await scanKey(sshPort, 'ecdsa'), await scanKey(sshPort, 'ed25519')]
  const [event] = await eventsOf(site, '--node', 'server', '--kind', 'session-ready')
  t.same(event?.detail.sshHostKeys, keys, 'what the server was told is what sshd has')
  const { stages } = await site.pawl('node', 'timeline', 'server')
  t.comment(stages.map((s: { stage: string; seconds: number }) => `${s.stage} ${s.seconds} s`).join(', '))
})

/** The host key of this type that sshd shows. One at a time: asked for all, ssh-keyscan gives up on some of a slow machine. */
async function scanKey(port: number, type: string): Promise<string> {
  const { stdout } = await promisify(execFile)('ssh-keyscan', [
    '-T',
    '60',
    '-t',
    type,
    '-p',
    String(port),
    '127.0.0.1',
  ])
  return stdout.trim().split(' ').slice(1).join(' ')
}
