/**
 * Redeems the stage-2 tokens of many machines at once, in a process that ends without a warning before or behind a given statement. What was
 * answered is written down as it is answered. Run with: DATABASE ANSWERED AT N, where AT is `before` or `after`, and N counts
 * statements from the first redemption on; 0 is never.
 */
import { appendFileSync } from 'node:fs'
import { openStory, takeStep } from '../load/story.ts'
import { dieAtStatement } from './statements.ts'

const [database = '', answered = '', at = '', n = ''] = process.argv.slice(2)
const { context, machines } = await openStory('sqlite', 24, database)
for (const step of ['stage1', 'handover'] as const)
  await Promise.all(machines.map((machine) => takeStep(context, machine, step)))

const statements = dieAtStatement(at, Number(n))
await Promise.all(
  machines.map(async (machine) => {
    await takeStep(context, machine, 'stage2')
    appendFileSync(answered, `${machine.host}\n`)
  }),
)
await context.storage.close()
process.send?.(statements())
