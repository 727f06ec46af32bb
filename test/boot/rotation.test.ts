import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { MachineOptions } from '../../src/cli/image-test/machine.ts'
import { eventsOf, factsOf, pawlLines, startSite } from './helpers/site.ts'

/**
 * A stick whose secret rotates: the machine boots from it twice, each time writing a new secret to it. Then the copy that
 * somebody made before is put into another machine.
 */
const site = await startSite()
t.teardown(() => site.stop())
const folder = await mkdtemp(join(tmpdir(), 'pawl-rotation-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))

/** The firmware is told nothing: what the medium trusts is all there is. */
const inMachine = { diskless: true, withoutCa: true, timeoutSeconds: 700 } as const

t.test('a secret rotates on its medium over two boots; the copied medium is refused', async (t) => {
  const [stick, copy] = [join(folder, 'stick.img'), join(folder, 'copy.img')]
  await site.pawl('node', 'add', 'rotary', '--profile', 'demo')
  const { ipxe } = site.artifacts
  const media = ['media', 'build', 'rotary', '--format', 'usb', '--ipxe', ipxe.trixie, '--rotating']
  await site.pawl(...media, '--out', stick)
  await copyFile(stick, copy)
  const secret = async () => (await site.pawl('node', 'show', 'rotary')).secret

  /** One boot of a machine from a medium, until its console says `line`. */
  async function boot(medium: string, line: string, who: Partial<MachineOptions> = {}): Promise<string> {
    const machine = await site.powerOn('rotary', '', { ...inMachine, medium, ...who })
    t.teardown(() => machine.powerOff())
    try {
      await machine.waitFor(line, 600)
      return machine.console()
    } finally {
      t.comment(pawlLines(machine))
      await machine.powerOff()
    }
  }

  const first = await secret()
  t.match(first, { kind: 'rotating', next: null, lastUsedAt: null })
  // Switched off as soon as the server has been told: what was said to be written must be there.
  const console = await boot(stick, 'pawl: stage3: new enrolment secret written to the boot medium')
  t.notMatch(console, /warning/)
  const second = await secret()
  t.match(second, { id: first.id, next: { id: /^[\w-]{12}$/, fault: null } })

  await boot(stick, 'pawl: ready')
  const third = await secret()
  t.equal(third.id, second.next.id, 'the second boot came with what the first one wrote')
  t.match(third.next, { writtenAt: /^20/ }, 'and wrote another')
  t.match(await site.pawl('node', 'show', 'rotary'), { state: 'ready' })

  const thief = factsOf('thief')
  await boot(copy, 'Pawl: REFUSED: the server knows why: pawl event list --node rotary', thief)
  const [alarm] = await eventsOf(site, '--kind', 'secret-reused-after-rotation')
  t.match(alarm, {
    node: 'rotary',
    detail: {
      secret: first.id,
      machines: [{ facts: { serial: factsOf('rotary').serial } }, { facts: { serial: thief.serial } }],
    },
  })
  t.equal((await secret()).id, third.id, 'nothing of the node has changed')
})
