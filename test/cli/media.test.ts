import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { findNode } from '../../src/storage/nodes.ts'
import { efiIpxe } from '../helpers/ipxe.ts'
import { forEachDatabase } from '../helpers/world.ts'
import { openInstallation, temporaryFolder } from './helpers/installation.ts'

const pawl = join(import.meta.dirname, '../../bin/pawl')
const skip = process.getuid?.() === 0 ? false : 'a small disk is mounted, as root'

await forEachDatabase(t, async (t, openWorld) => {
  if (t.name === 'on PostgreSQL') {
    t.pass('the command line does not see which database it is')
    return
  }

  await t.test('no secret is issued for a medium that the disk has no room for', { skip }, async (t) => {
    const { world, dataDir, run } = await openInstallation(t, openWorld)
    const folder = temporaryFolder(t)
    writeFileSync(join(folder, 'ipxe.efi'), efiIpxe())
    await run(['node', 'add', 'mlab9', '--mac', '52:54:00:12:34:99'])
    for (const [format, room] of Object.entries({ usb: '1m', efi: '4k' })) {
      const build = `media build mlab9 --format ${format} --out ${folder}/disk/medium --ipxe ${folder}/ipxe.efi --yes`
      const mount = `mkdir -p ${folder}/disk && mount -t tmpfs -o size=${room} none ${folder}/disk`
      const line = `${mount} && ${pawl} ${build}; echo "exit $?"; ls -A ${folder}/disk`
      const child = spawn('unshare', ['-m', 'sh', '-c', line], {
        env: { ...process.env, PAWL_DATA: dataDir },
      })
      let said = ''
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk: Buffer) => {
          said += String(chunk)
        })
      await once(child, 'close')
      t.match(said, /no room|cannot be written \(ENOSPC\)/, format)
      t.match(said, /exit [1-9]\d*\n$/, 'and nothing is left there')
      t.equal((await findNode(world.context.storage.db, 'mlab9'))?.secret_id, null)
    }
  })
})
