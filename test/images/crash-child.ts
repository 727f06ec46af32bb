/** Stores one artifact and kills itself, as kill -9 does, behind the step that is named. Run by artifacts.test.ts. */
import { parseDigest } from '../../src/domain/digest.ts'
import { openArtifactStore } from '../../src/images/artifacts.ts'

const [folder = '', step, digest = '', content = ''] = process.argv.slice(2)
const store = await openArtifactStore(folder, {
  faults: (at) => {
    if (at === step) process.kill(process.pid, 'SIGKILL')
  },
})
await store.put(parseDigest(digest), chunks(), { sender: 'ci', size: content.length })

async function* chunks(): AsyncGenerator<Uint8Array> {
  yield Buffer.from(content.slice(0, 4))
  yield Buffer.from(content.slice(4))
}
