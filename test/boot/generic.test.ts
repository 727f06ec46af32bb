import { readFileSync } from 'node:fs'
import t from 'tap'
import { ensureGenericImages } from './helpers/artifacts.ts'
import { applyProfile, eventsOf, pawlLines, profile, startSite, trusting } from './helpers/site.ts'

/** The images for real servers, on a machine whose network adapter is a real one's. */
const site = await startSite()
t.teardown(() => site.stop())
const { stage2, stage3 } = await ensureGenericImages()

t.test('a machine with an Intel 82574L boots the generic images to ready', async (t) => {
  const kernel = (files: typeof stage2) => ['--kernel', files.kernel, '--initramfs', files.initramfs]
  const trusted = { ...stage2, initramfs: await trusting(site, stage2.initramfs) }
  await site.pawl('image', 'publish', 'generic-stage2@1', ...kernel(trusted))
  await site.pawl(
    'image',
    'publish',
    'generic-stage3@1',
    ...kernel(stage3),
    '--filesystem',
    stage3.filesystem,
  )
  await applyProfile(site, profile().replaceAll(/pawl-stage(\d)[@/]\w+/g, 'generic-stage$1@1'))
  const autoexec = await site.addNode('metal')
  const machine = await site.powerOn('metal', autoexec, { nic: 'e1000e', timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor('pawl: ready', 600)
  await machine.exited
  t.comment(pawlLines(machine))
  t.match(await site.pawl('node', 'show', 'metal'), { state: 'ready', session: { state: 'ready' } })
  const { stages } = await site.pawl('node', 'timeline', 'metal')
  t.comment(stages.map((s: { stage: string; seconds: number }) => `${s.stage} ${s.seconds} s`).join(', '))
  t.equal((await eventsOf(site, '--node', 'metal', '--kind', 'session-ready')).length, 1)
})

t.test('the images say what is in them', async (t) => {
  const said = JSON.parse(readFileSync(stage2.annotations, 'utf8'))
  t.match(said, {
    'recipe.name': 'pawl-stage2-generic',
    'recipe.digest': /^sha256:[0-9a-f]{64}$/,
    'sbom.format': 'CycloneDX 1.6 JSON',
  })
  const bom = JSON.parse(said['sbom.cyclonedx'])
  t.match(bom, { bomFormat: 'CycloneDX', specVersion: '1.6' })
  const names = bom.components.map((component: { name: string }) => component.name)
  for (const name of ['busybox-static', 'curl', 'kexec-tools', 'libc6', 'firmware-bnx2x'])
    t.ok(names.includes(name), name)
  for (const { purl } of bom.components)
    t.match(purl, /^pkg:deb\/debian\/[^@]+@[^?]+\?arch=(amd64|all)&distro=/)
})
