import { enrol } from '../../../src/boot/enrol.ts'
import type { SshHostKey } from '../../../src/domain/ssh-host-key.ts'
import { fanOut } from '../../../src/webhooks/fan-out.ts'
import { demoProfile, publishImage, storeNode, storeProfile } from '../../helpers/fleet.ts'
import { askStage1, boot, facts, machineOf, report } from '../../helpers/machine.ts'
import type { World } from '../../helpers/world.ts'
import type { Installation } from './installation.ts'

const hostKey =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f' as SshHostKey // well-formed
const sites = ['lga0t', 'lax02', 'ams04']

/** Boots, refusals, machines that ask, rollouts, webhooks: something to show in every table, with names as fleets have them. */
export async function makeFleet({ world, run }: Installation): Promise<void> {
  await publishImage(world, 'small@1', 'a', false)
  for (const [version, letter] of [
    ['2026.10.3', 'b'],
    ['2026.11.0-rc.1', 'c'],
    ['2026.11.0', 'd'],
  ] as const) {
    await publishImage(world, `measurement-worker@${version}`, letter)
    world.clock.advance(86_400)
  }
  const must = async (line: string): Promise<void> => {
    const { exit, stderr } = await run(line.split(' '))
    if (exit !== 0) throw new Error(`pawl ${line}: ${stderr}`)
  }
  await must('channel set measurement-worker/stable 2026.10.3')
  await must('channel set measurement-worker/canary 2026.11.0')
  await storeProfile(world, {
    ...demoProfile,
    boot: { stage2: 'small@1', stage3: 'measurement-worker/stable', join: { kind: 'none' } },
    reinstall: { stage2: 'small@1', stage3: 'measurement-worker@2026.11.0', join: { kind: 'none' } },
  })
  await bootNodes(world)
  await must('node reinstall mlab2-lga0t.measurement-lab.example.org')
  await must('node disable mlab4-ams04.measurement-lab.example.org')
  await must('channel protect measurement-worker/canary --two-person')
  await must(
    'rollout start measurement-worker/stable 2026.11.0 --waves 1,50%,100% --why kernel-6.12.58 --yes',
  )
  await must('channel set measurement-worker/canary 2026.10.3 --why the-disk-driver-is-slow')
  await must('operator token create --name ann --role operator --expires 90d')
  await must('operator token create --name ci-builder --role publisher --scope measurement-*')
  for (const serial of ['CZJ1234567', '7RKFKX2']) {
    const asked = { host: undefined, source: '2001:db8:4000:17::c4', request: 'enrol' }
    await enrol(world.context, {
      ...asked,
      fields: { ...facts, mac: `52-54-00-99-88-0${serial.length % 9}`, serial },
    })
  }
  await must('webhook create --name chat --url https://hooks.example.com/services/pawl --kind session-*')
  await must(
    'webhook create --name tickets --url https://tickets.example.com/in?key=x --kind refused --kind *',
  )
  await must('node add mlab9-lax02.measurement-lab.example.org --label site=lax02')
  await fanOut(world.context)
  await world.context.refusals.flush()
}

async function bootNodes(world: World): Promise<void> {
  for (const site of sites) {
    for (const n of [1, 2, 3, 4]) {
      const name = `mlab${n}-${site}.measurement-lab.example.org`
      const secret = await storeNode(world, {
        name,
        labels: JSON.stringify({ site, rack: `r${n}` }),
        addresses: [{ address: `192.0.2.${sites.indexOf(site) * 10 + n}`, prefixLength: 32 }],
      })
      const uuid = facts.uuid.replace(/.$/, String(n))
      const machine = machineOf(secret, { host: name, fields: { ...facts, uuid, secret } })
      if (n === 1) {
        const learnt = await boot(world, machine, 'join')
        await report(world, machine, learnt.report, 'success', { sshHostKeys: [hostKey] })
      }
      if (n === 2) await boot(world, machine, 'stage2')
      if (n === 3) {
        const learnt = await boot(world, machine, 'stage3')
        const message = 'containerd did not start: dial unix /run/containerd/containerd.sock'
        await report(world, machine, learnt.report, message, { final: true })
      }
      const wrong = machineOf('wrong', { host: name })
      if (n === 4) await askStage1(world, wrong).catch(() => {})
      world.clock.advance(3600)
    }
  }
}
