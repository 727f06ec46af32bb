import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { eventsOf, type Site, startSite } from './helpers/site.ts'

/** Bytes that are changed on the server's own disk, after they were published. */
const site = await startSite()
t.teardown(() => site.stop())

/** Changes one byte in the middle of a stored artifact. */
async function tamper(site: Site, ref: string, role: string): Promise<void> {
  const { manifest } = await site.pawl('image', 'show', ref)
  const { digest, size } = manifest.artifacts.find((artifact: { role: string }) => artifact.role === role)
  const file = openSync(join(site.dataDir, 'artifacts', 'sha256', digest), 'r+')
  const byte = Buffer.alloc(1)
  const position = Math.floor(size / 2)
  readSync(file, byte, 0, 1, position)
  writeSync(file, Buffer.from([byte.readUInt8(0) ^ 255]), 0, 1, position)
  closeSync(file)
}

t.test('a tampered filesystem is not mounted: the node says so, and its timeline shows it', async (t) => {
  const autoexec = await site.addNode('fs')
  await tamper(site, 'pawl-stage3@1', 'filesystem')
  const machine = await site.powerOn('fs', autoexec, { timeoutSeconds: 700 })
  t.teardown(() => machine.powerOff())
  await machine.waitFor(/pawl: stage3: error: filesystem: checksum mismatch/, 600)
  await machine.waitFor('pawl: stage3: reported to the server')
  await machine.exited
  t.notMatch(machine.console(), 'pawl: stage3: filesystem mounted')
  t.match(await site.pawl('node', 'show', 'fs'), { state: 'failed', failureCause: 'reported' })
  const timeline = await site.pawl('node', 'timeline', 'fs')
  t.match(JSON.stringify(timeline), /checksum mismatch/, 'the timeline has the words')
  const spans = timeline.stages.flatMap((stage: { spans: object[] }) => stage.spans)
  t.comment(spans)
  for (const kind of ['asked', 'downloaded', 'verified', 'kexec', 'reported'])
    t.ok(
      spans.some((span: { kind: string }) => span.kind === kind),
      `${kind} is a span`,
    )
  t.match(timeline.session.client, { agent: /^iPXE/, tls: { version: 'TLSv1.2' } })
  const { logs } = await site.pawl('node', 'logs', 'fs')
  t.match(logs, [{ stage: 'stage3', text: /pawl: stage3: error: filesystem: checksum mismatch/ }])
  t.comment(logs)
})

t.test('a tampered initramfs is not started by an iPXE that checks digests', async (t) => {
  const autoexec = await site.addNode('ini')
  await tamper(site, 'pawl-stage2@1', 'initramfs')
  // The server keeps hot artifacts in memory: begin with a cold one.
  await site.kill()
  await site.start()
  const machine = await site.powerOn('ini', autoexec, { suite: 'sid' })
  t.teardown(() => machine.powerOff())
  await machine.waitFor(/Pawl: ALTERED/)
  await machine.powerOff()
  t.notMatch(machine.console(), 'pawl: stage2: started')
  t.same(
    await eventsOf(site, '--node', 'ini', '--kind', 'handover-opened'),
    [],
    'its handover was never asked for',
  )
})
