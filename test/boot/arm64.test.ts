import t from 'tap'
import { ensureArm64Images } from './helpers/artifacts.ts'
import { applyProfile, eventsOf, startSite, trusting } from './helpers/site.ts'
import { arm64Packages, ensureBootTools } from './helpers/tools.ts'

/** An arm64 server: UEFI, Debian's iPXE for arm64, and images built for it on whatever machine this is. */
ensureBootTools(undefined, arm64Packages)
const site = await startSite()
t.teardown(() => site.stop())
const { stage2, stage3, ipxe } = await ensureArm64Images()

t.test('an arm64 machine boots to ready by the profile that PCs have too', async (t) => {
  const publish = async (
    ref: string,
    kernel: string,
    initramfs: string,
    ...more: string[]
  ): Promise<void> => {
    const files = ['--kernel', kernel, '--initramfs', initramfs, ...more]
    await site.pawl('image', 'publish', ref, '--arch', 'arm64', '--args', 'console=ttyAMA0', ...files)
  }
  await t.rejects(
    site.pawl('image', 'publish', 'wrong@1', '--kernel', stage2.kernel, '--initramfs', stage2.initramfs),
    { message: /publish it with --arch arm64/ },
  )
  await publish('stage2-arm64@1', stage2.kernel, await trusting(site, stage2.initramfs))
  await publish('stage3-arm64@1', stage3.kernel, stage3.initramfs, '--filesystem', stage3.filesystem)
  await applyProfile(
    site,
    `name: demo
kernelArguments: pawl.after=poweroff pawl.reboot_delay=2
boot:
  stage2: { x86_64: pawl-stage2@1, arm64: stage2-arm64@1 }
  stage3: { x86_64: pawl-stage3/stable, arm64: stage3-arm64@1 }
`,
  )
  const machine = await site.powerOn('arm', await site.addNode('arm'), {
    architecture: 'arm64',
    ipxe: ipxe.sid,
    timeoutSeconds: 700,
  })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: ready', 600)
  await machine.exited
  const console = machine.console()
  for (const marker of [
    'pawl: stage2: manifest verified',
    'pawl: stage2: kexec',
    'pawl: stage3: filesystem verified',
    'pawl: stage3: unprivileged access to the boot listener is blocked',
  ])
    t.ok(console.includes(marker), `console has "${marker}"`)
  t.match(await site.pawl('node', 'show', 'arm'), { state: 'ready' })
  const [opened] = (await eventsOf(site, '--node', 'arm')).filter(({ kind }) => kind === 'session-opened')
  t.match(opened?.detail, { facts: { buildarch: 'arm64', platform: 'efi' }, digestsCheckedByFirmware: true })
  const { stages } = await site.pawl('node', 'timeline', 'arm')
  t.comment(stages.map((s: { stage: string; seconds: number }) => `${s.stage} ${s.seconds} s`).join(', '))
})
