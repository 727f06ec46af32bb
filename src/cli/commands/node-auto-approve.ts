import { type Command, InvalidArgumentError } from 'commander'
import { PawlError } from '../../errors.ts'
import type { AutoApprovalView, MadeAutoApproval, Page, RuleSerial } from '../answers.ts'
import { pathOf } from '../api.ts'
import { answer, type Context, withApi } from '../context.ts'
import { withExamples } from '../examples.ts'
import { formatAge, formatTime } from '../format.ts'
import { wholeList } from '../pages.ts'
import { operatorName, type Piece, toned } from '../text.ts'
import { collect, exactlyOne, parseDuration, parsePairs } from '../values.ts'

interface CreateFlags {
  readonly name: string
  readonly source: readonly string[]
  readonly serials?: string
  readonly serial?: readonly string[]
  readonly profile: string
  readonly nodeName?: string
  readonly label?: readonly string[]
  readonly limit?: number
  readonly until?: string
  readonly for?: number
}

/** Adds `pawl node auto-approve …`. */
export function addAutoApproveCommands(node: Command, context: Context): void {
  const rules = node
    .command('auto-approve')
    .description('Rules that approve machines by address and serial number, for large installs.')
  addCreate(rules, context)
  addList(rules, context)
  addShow(rules, context)
  const revoke = rules
    .command('revoke')
    .description('End a rule now. The nodes that it made stay.')
    .argument('<rule>', 'its name')
    .action((name: string) =>
      withApi(context, async (api) => {
        const view = await api.post<AutoApprovalView>(`/auto-approvals${pathOf(name)}/revoke`)
        answer(context, view, () =>
          context.output.line(`rule ${view.name} is revoked; it approved ${view.used} of ${view.serials}`),
        )
      }),
    )
  withExamples(revoke, ['pawl node auto-approve revoke rack1'])
  const remove = rules
    .command('remove')
    .description('Remove a rule that is over, with its serial numbers: another rule may list them again.')
    .argument('<rule>', 'its name')
    .action((name: string) =>
      withApi(context, async (api) => {
        await api.delete(`/auto-approvals${pathOf(name)}`)
        answer(context, { name, removed: true }, () => context.output.line(`rule ${name} removed`))
      }),
    )
  withExamples(remove, ['pawl node auto-approve remove rack1'])
}

function addCreate(rules: Command, context: Context): void {
  const command = rules
    .command('create')
    .description(
      'Approve machines by themselves that ask from these addresses and have these serial numbers, each once, until a time. Facts can be forged: profiles with credentials to join must say acceptAutoApproved.',
    )
    .requiredOption('--name <RULE>', 'what the rule is called')
    .requiredOption('--source <PREFIX>', 'where machines ask from; may be repeated', collect)
    .option('--serials <FILE>', 'their serial numbers, one a line, # for remarks')
    .option('--serial <S>', 'a serial number; may be repeated', collect)
    .requiredOption('--profile <P>', 'the profile they boot')
    .option('--node-name <TEMPLATE>', 'their names, with {serial}, {mac} or {uuid} in it ({serial})')
    .option('--label <K=V>', 'a label; may be repeated', collect)
    .option('--limit <N>', 'machines it may approve (all of the serial numbers)', parseLimit)
    .option('--for <TIME>', 'how long it is good, 7d at most', parseDuration)
    .option('--until <TIME>', 'or until when, as 2026-11-21T18:00:00Z')
    .action((flags: CreateFlags) =>
      withApi(context, async (api) => {
        const made = await api.create<MadeAutoApproval>('/auto-approvals', await ruleOf(flags))
        answer(context, made, () => {
          const { name, limit, sources, expiresAt } = made
          const machines = `up to ${limit} machines from ${sources.join(', ')}`
          context.output.line(`rule ${name} approves ${machines} until ${formatTime(expiresAt)}`)
        })
        for (const warning of made.warnings) context.output.warning(warning)
      }),
    )
  withExamples(command, [
    'pawl node auto-approve create --name rack1 --source 192.0.2.0/24 \\\n      --serials rack1.txt --profile worker --node-name rack1-{serial} --for 4h',
  ])
}

async function ruleOf(flags: CreateFlags): Promise<object> {
  const { name, source, profile, nodeName, label, limit, until } = flags
  exactlyOne({ '--for': flags.for !== undefined, '--until': until !== undefined })
  if (flags.serials === undefined && flags.serial === undefined)
    throw new PawlError('usage', 'give serial numbers with --serials FILE or --serial')
  const listed = flags.serials === undefined ? [] : await readSerials(flags.serials)
  return {
    ...{ name, profile, nodeName, limit, until },
    sources: source,
    serials: [...listed, ...(flags.serial ?? [])],
    labels: label === undefined ? undefined : parsePairs(label, false),
    forSeconds: flags.for,
  }
}

const maxFileBytes = 2 * 1024 * 1024

/** Serial numbers of a file: one a line, blank lines and lines that begin with `#` left out. */
async function readSerials(file: string): Promise<string[]> {
  const { readText } = await import('../verify-image.ts') // schemas take time to load: only who needs them waits
  const lines = (await readText(file, maxFileBytes)).split(/\r?\n/).map((line) => line.trim())
  return lines.filter((line) => line !== '' && !line.startsWith('#'))
}

function parseLimit(text: string): number {
  if (/^[1-9]\d{0,4}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number from 1.')
}

function addList(rules: Command, context: Context): void {
  const command = rules
    .command('list')
    .description('Every rule, the newest first, and how much of it is used.')
    .action(() =>
      withApi(context, async (api) => {
        const page = await wholeList<AutoApprovalView>(api, '/auto-approvals')
        answer(context, page, () => showList(context, page.items))
      }),
    )
  withExamples(command, ['pawl node auto-approve list'])
}

function showList({ output, io }: Context, rules: readonly AutoApprovalView[]): void {
  if (rules.length === 0) {
    output.note('no rules')
    return
  }
  output.table(
    [
      { title: 'RULE', min: 8 },
      { title: 'STATE', min: 7 },
      { title: 'USED', align: 'right', min: 5 },
      { title: 'PROFILE', min: 7 },
      { title: 'FROM', min: 10 },
      { title: 'UNTIL', min: 10 },
      { title: 'AGO', align: 'right', min: 5 },
    ],
    rules.map((rule) => [
      rule.name,
      stateOf(rule),
      `${rule.used}/${rule.limit}`,
      rule.profile,
      rule.sources.join(', '),
      formatTime(rule.expiresAt),
      formatAge(rule.createdAt, io.now()),
    ]),
  )
}

function stateOf({ state }: AutoApprovalView): Piece {
  return state === 'live' ? toned('good', state) : state === 'used-up' ? state : toned('dim', state)
}

function addShow(rules: Command, context: Context): void {
  const command = rules
    .command('show')
    .description('A rule, and which nodes it made.')
    .argument('<rule>', 'its name')
    .action((name: string) =>
      withApi(context, async (api) => {
        const path = `/auto-approvals${pathOf(name)}`
        const rule = await api.get<AutoApprovalView>(path)
        const made: RuleSerial[] = []
        for (let after: string | undefined; ; ) {
          const query = { used: 'true', limit: 1000, after }
          const page = await api.get<Page<RuleSerial, string>>(`${path}/serials`, query)
          made.push(...page.items)
          if (page.next === null) break
          after = page.next
        }
        answer(context, { ...rule, made }, () => showRule(context, rule, made))
      }),
    )
  withExamples(command, ['pawl node auto-approve show rack1'])
}

function showRule({ output, io }: Context, rule: AutoApprovalView, made: readonly RuleSerial[]): void {
  const labels = Object.entries(rule.labels).map(([key, value]) => `${key}=${value}`)
  output.fields([
    { name: 'rule', value: toned('strong', rule.name) },
    { name: 'state', value: stateOf(rule) },
    { name: 'from', value: rule.sources },
    { name: 'profile', value: rule.profile },
    { name: 'names', value: rule.nodeName },
    { name: 'labels', value: labels.length === 0 ? 'none' : labels },
    { name: 'used', value: `${rule.used} of ${rule.limit}; it has ${rule.serials} serial numbers` },
    { name: 'until', value: formatTime(rule.expiresAt) },
    { name: 'made', value: `${formatTime(rule.createdAt)} by ${operatorName(rule.createdBy)}` },
    ...(rule.revokedAt === null
      ? []
      : [
          {
            name: 'revoked',
            value: `${formatTime(rule.revokedAt)} by ${operatorName(rule.revokedBy ?? '')}`,
          },
        ]),
  ])
  if (made.length === 0) return
  output.line()
  output.table(
    [
      { title: 'SERIAL', min: 8 },
      { title: 'NODE', min: 8 },
      { title: 'FROM', min: 9 },
      { title: 'AGO', align: 'right', min: 5 },
    ],
    made.map(({ serial, node, source, usedAt }) => [
      serial,
      node ?? '',
      source ?? '',
      formatAge(usedAt ?? '', io.now()),
    ]),
  )
}
