import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Answer, send } from '../helpers/robot.ts'
import { smallKernel } from '../helpers/small-image.ts'
import { freePort, runPawl, startServer } from './helpers/process.ts'
import type { ListedEvent } from './helpers/site.ts'
import { ensureSystemRoot, runInSystem, systemRootAbsent } from './helpers/system-root.ts'

/** Debian's own cloud-init and Ignition, in a Debian of their own, fetch from a server over HTTPS, and do what they are told. */
/** The system has no programs for users, SSH and locales, and no disk. */
const noUsers = [
  'growpart: {mode: "off"}',
  'resize_rootfs: false',
  'users: []',
  'locale: false',
  'no_ssh_fingerprints: true',
]

const absent = systemRootAbsent()
if (absent !== undefined) t.plan(0, absent)
else await suite()

async function suite(): Promise<void> {
  const archive = await ensureSystemRoot((line) => t.comment(line))
  const site = await startSmallSite(t)

  const profile = (kind: string, settings: Record<string, string>): Promise<void> =>
    site.apply({
      name: 'demo',
      kernelArguments: 'console=ttyS0',
      boot: { stage2: 'small@1', stage3: 'full@1', join: { kind, settings } },
    })

  /** A node that has come as far as its join script. */
  async function bootTo(name: string): Promise<Joining> {
    const secret = /[?&]secret=([\w-]{44})|set secret ([\w-]{44})/.exec(await site.addNode(name))
    const at = { port: site.bootPort, ca: site.ca }
    const base = `/v1/boot/${name}`
    const ask = async (stage: string, token: string): Promise<Record<string, never>> => {
      const key = randomBytes(16).toString('base64url')
      const headers = { authorization: `Bearer ${token}`, 'idempotency-key': key }
      return JSON.parse(ok(await send(at, 'POST', `${base}/${stage}`, headers)))
    }
    const facts = `serial=${name}&platform=efi&secret=${secret?.[1] ?? secret?.[2]}`
    const script = ok(await send(at, 'GET', `${base}/stage1.ipxe?${facts}`))
    const k = /handover\?k=([\w-]{44})/.exec(script)?.[1]
    const { tokens } = JSON.parse(ok(await send(at, 'GET', `${base}/handover?k=${k}`)))
    // biome-ignore lint/suspicious/noExplicitAny: each answer has a shape of its own
    const stage2: any = await ask('stage2', tokens.stage2)
    return {
      args: stage2.args,
      join: async () => {
        // biome-ignore lint/suspicious/noExplicitAny: each answer has a shape of its own
        const stage3: any = await ask('stage3', stage2.handover.tokens.stage3)
        // biome-ignore lint/suspicious/noExplicitAny: each answer has a shape of its own
        const join: any = await ask('join', stage3.tokens.join)
        return join.script
      },
      report: async (message, final) => {
        const headers = {
          authorization: `Bearer ${tokens.report}`,
          'content-type': 'application/x-www-form-urlencoded',
        }
        const body = `message=${encodeURIComponent(message)}&final=${final}`
        const answer = await send(at, 'POST', `${base}/report`, headers, body)
        if (answer.status !== 204) throw new Error(`report: ${answer.status} ${answer.text}`)
      },
    }
  }

  await t.test('cloud-init applies what the profile says, and its success is reported', async (t) => {
    await profile('cloud-init', {
      userData: [
        '#cloud-config',
        ...noUsers,
        'write_files:',
        '  - {path: /etc/of, permissions: "0640", content: "{{ host }} {{ labels.rack }} {{ session }}"}',
        '  - {path: /etc/of-new/folder/file, permissions: "0644", content: "x"}',
        'runcmd:',
        '  - [sh, -c, "echo ran in $(hostname) >/etc/ran"]',
        '',
      ].join('\n'),
      vendorData: '#cloud-config\nbootcmd:\n  - echo vendor >/etc/of-vendor\n',
      networkConfig: 'version: 2\nethernets:\n  eth7:\n    addresses: [192.0.2.7/24]\n',
    })
    const node = await bootTo('cloud')
    const script = await node.join()
    const { code, output } = await runInSystem(
      t,
      archive,
      [
        '/out/join.sh || echo "exit $?"',
        'for file in /etc/of /etc/of-vendor /etc/ran /etc/hostname; do echo "$file: $(cat $file)"; done',
        'stat -c "mode %a" /etc/of',
        'stat -c "folder %a" /etc/of-new /etc/of-new/folder',
        'echo "id: $(cat /var/lib/cloud/data/instance-id)"',
        'grep -h "network config" /var/log/cloud-init.log | grep -m 1 192.0.2.7 | cut -c 1-200 | sed "s/^/network: /"',
        'ls /etc/cloud/cloud.cfg.d | sed "s/^/left: /"',
        'find / -xdev -type f -size -1024k -perm /004 -exec grep -lE "/[A-Za-z0-9_-]{44}/nocloud" {} + 2>/dev/null | sed "s/^/readable: /"',
        'cloud-init --version',
      ].join('\n'),
      { files: { 'join.sh': script } },
    )
    const said = output.split('\n').filter((line) => !/^(Cloud-init v|ci-info)/.test(line))
    t.comment(said.join('\n'))
    t.equal(code, 0)
    t.match(output, /^cloud-init: done$/m)
    t.notMatch(output, /^exit/m)
    const session = /profile demo, session ([\w-]+)\./.exec(script)?.[1] ?? ''
    t.match(output, `/etc/of: cloud r7 ${session}`)
    t.match(output, '/etc/of-vendor: vendor')
    t.match(output, '/etc/ran: ran in cloud')
    t.match(output, /^\/etc\/hostname: cloud$/m, "the node's name is the host's")
    t.match(output, /^mode 640$/m)
    t.match(output, /^folder 755\nfolder 755$/m, 'new folders of its files are for all to enter')
    t.match(output, `id: ${session}`, 'each boot is an instance of its own')
    t.match(output, /^network: /m, 'the network configuration is what cloud-init applies')
    t.notMatch(output, /^left: 99-pawl/m, 'the URL is not left in the settings')
    t.notMatch(output, /^readable: /m, 'no file that others may read has the URL')
    const served = await site.events('--node', 'cloud', '--kind', 'seed-served')
    t.same(
      served.map(({ detail }) => detail.file),
      ['meta-data', 'user-data', 'vendor-data'],
      'what 22.4.2 asks for',
    )
    await node.report('success', false)
    const url = /seedfrom: "(https:[^"]+)"/.exec(script)?.[1] ?? ''
    const late = await send({ port: site.bootPort, ca: site.ca }, 'GET', `${new URL(url).pathname}user-data`)
    t.same([late.status, late.text], [403, 'refused\n'], 'nothing is served once it is reported')
    t.notMatch(site.log(), url.split('/').at(-3) ?? 'no URL', 'the server logged no token')
  })

  await t.test("what cloud-init's stages could not do is the script's last line", async (t) => {
    await profile('cloud-init', {
      userData: ['#cloud-config', ...noUsers, 'runcmd:', '  - [sh, -c, "exit 3"]', ''].join('\n'),
    })
    const node = await bootTo('failing')
    const { code, output } = await runInSystem(t, archive, '/out/join.sh; exit $?', {
      files: { 'join.sh': await node.join() },
    })
    const last = output.trim().split('\n').at(-1) ?? ''
    t.equal(code, 1)
    t.match(last, /^cloud-init: \('scripts-user', RuntimeError\('Runparts: 1 failures/)
    await node.report(`join script exited 1: ${last}`, true)
    const [failed] = await site.events('--node', 'failing', '--kind', 'session-failed')
    t.match(failed?.detail.cause, /Runparts: 1 failures/)
  })

  await t.test('a seed that is refused, or of another CA, is an error and no empty success', async (t) => {
    await profile('cloud-init', { userData: '#cloud-config\nresize_rootfs: false\n' })
    const node = await bootTo('refused')
    const script = await node.join()
    await node.report('error: the power went', true)
    const ofOtherCa = script.replace(/echo '[A-Za-z0-9+/=]{100,}'/, "echo ''")
    t.not(ofOtherCa, script)
    // cloud-init asks for ten seconds before it gives up.
    const [{ code, output }, other] = await Promise.all([
      runInSystem(t, archive, '/out/join.sh; exit $?', { files: { 'join.sh': script } }),
      runInSystem(t, archive, '/out/join.sh; exit $?', { files: { 'join.sh': ofOtherCa } }),
    ])
    t.equal(code, 1)
    t.match(output.trim().split('\n').at(-1), /^cloud-init: No instance datasource found/)
    const refused = await site.events('--node', 'refused', '--kind', 'refused')
    t.match(refused[0]?.detail, { cause: 'session-ended', request: 'nocloud' })
    t.equal(other.code, 1, 'a server of another CA gets nothing believed')
    t.match(other.output, /certificate verify failed|No instance datasource found/)
  })

  await t.test(
    'Ignition of an initramfs fetches by the URL on the command line, with the CA that its system trusts',
    async (t) => {
      const file = {
        path: '/etc/of',
        mode: 0o640,
        contents: { source: 'data:,{{ host }}%20{{ labels.rack }}' },
      }
      const unit = { name: 'of.service', enabled: true, contents: '[Service]\nExecStart=/bin/true\n' }
      const ignition = { version: '3.3.0' }
      await profile('ignition', {
        config: JSON.stringify({ ignition, storage: { files: [file] }, systemd: { units: [unit] } }),
      })
      const node = await bootTo('ignited')
      t.match(node.args, /^console=ttyS0 ignition\.config\.url=https:\/\/127\.0\.0\.1:/)
      const program = '/usr/lib/dracut/modules.d/30ignition/ignition'
      const booted = await runInSystem(
        t,
        archive,
        [
          'cp /out/ca.crt /usr/local/share/ca-certificates/pawl.crt',
          'update-ca-certificates >/dev/null 2>&1',
          'mkdir -p /sysroot/etc/selinux /run/ignition',
          // Debian's build of it labels files for SELinux, of which this system has nothing.
          'echo SELINUXTYPE=none >/sysroot/etc/selinux/config',
          'ln -s /bin/true /usr/local/bin/setfiles',
          `${program} -log-to-stdout -platform metal -stage fetch -fetch-timeout 20s || exit 4`,
          `${program} -log-to-stdout -platform metal -stage files -root /sysroot || exit 5`,
          'echo "/etc/of: $(cat /sysroot/etc/of), $(stat -c %a /sysroot/etc/of)"',
          'ls /sysroot/etc/systemd/system',
        ].join('\n'),
        { files: { 'ca.crt': site.ca }, cmdline: `${node.args} ignition.platform.id=metal` },
      )
      t.equal(booted.code, 0)
      t.comment(booted.output)
      t.match(booted.output, '/etc/of: ignited r7, 640')
      t.match(booted.output, /^of\.service$/m)

      const applied = await runInSystem(
        t,
        archive,
        '/out/join.sh || exit $?\necho "/etc/of: $(cat /etc/of)"\nls /etc/systemd/system /run/pawl\n',
        { files: { 'join.sh': await node.join() } },
      )
      t.comment(applied.output)
      t.equal(applied.code, 0)
      t.match(applied.output, 'ignition: applied by ignition-apply')
      t.match(applied.output, '/etc/of: ignited r7')
      t.match(applied.output, /^of\.service$/m)
      const url = / ignition\.config\.url=(\S+)/.exec(node.args)?.[1] ?? ''
      const late = await send({ port: site.bootPort, ca: site.ca }, 'GET', new URL(url).pathname)
      t.same(
        [late.status, late.text],
        [403, 'refused\n'],
        'stage 3 was redeemed: the command line tells nobody anything',
      )
      await node.report('success', false)
    },
  )

  await t.test('what ignition-apply cannot do in a system that runs, it says', async (t) => {
    const users = { ignition: { version: '3.3.0' }, passwd: { users: [{ name: 'core' }] } }
    await profile('ignition', { config: JSON.stringify(users) })
    const node = await bootTo('users')
    const { code, output } = await runInSystem(t, archive, '/out/join.sh; exit $?', {
      files: { 'join.sh': await node.join() },
    })
    t.equal(code, 1)
    t.match(output.trim().split('\n').at(-1), /^ignition: failed to apply: .*cannot apply passwd live$/)
  })
}

interface SmallSite {
  readonly bootPort: number
  readonly ca: string
  apply(profile: Record<string, unknown>): Promise<void>
  /** Registers a node and returns its site script, secret included. */
  addNode(name: string): Promise<string>
  events(...filter: string[]): Promise<ListedEvent[]>
  log(): string
}

/** A server on loopback with images that nobody boots. */
async function startSmallSite(t: Test): Promise<SmallSite> {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-seeds-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const data = join(folder, 'data')
  const bootPort = await freePort()
  const command = [join(import.meta.dirname, '../../bin/pawl')] as const
  const pawl = (args: readonly string[], input?: string): Promise<string> =>
    runPawl(command, [...args, '--data', data, '--json'], input)
  await runPawl(command, ['init', '--data', data, '--public-url', `https://127.0.0.1:${bootPort}`])
  let log = ''
  const listen = ['--boot-listen', `127.0.0.1:${bootPort}`, '--operator-listen', '127.0.0.1:0']
  const { child } = await startServer(command, ['--data', data, ...listen], (text) => {
    log += text
  })
  t.teardown(async () => {
    const closed = once(child, 'close')
    child.kill('SIGTERM')
    await closed
  })
  const files = {
    kernel: smallKernel().bytes,
    initramfs: Buffer.from('initramfs'),
    filesystem: Buffer.from('fs'),
  }
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, name), bytes)
  const flags = (names: readonly string[]): string[] =>
    names.flatMap((name) => [`--${name}`, join(folder, name)])
  await pawl(['image', 'publish', 'small@1', ...flags(['kernel', 'initramfs'])])
  await pawl(['image', 'publish', 'full@1', ...flags(['kernel', 'initramfs', 'filesystem'])])
  return {
    bootPort,
    ca: await readFile(join(data, 'ca.crt'), 'utf8'),
    apply: async (profile) => {
      await pawl(['profile', 'apply', '-f', '-'], JSON.stringify(profile))
    },
    addNode: async (name) => {
      await pawl(['node', 'add', name, '--profile', 'demo', '--label', 'rack=r7'])
      const autoexec = join(folder, `${name}.ipxe`)
      await pawl(['node', 'secret', name, '--autoexec', autoexec])
      return readFile(autoexec, 'utf8')
    },
    events: async (...filter) => JSON.parse(await pawl(['event', 'list', ...filter])).items,
    log: () => log,
  }
}

interface Joining {
  /** Of the full kernel. */
  readonly args: string
  readonly join: () => Promise<string>
  readonly report: (message: string, final: boolean) => Promise<void>
}

function ok({ status, text }: Answer): string {
  if (status !== 200) throw new Error(`${status}: ${text}`)
  return text
}
