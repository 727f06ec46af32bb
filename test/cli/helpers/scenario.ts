import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Installation, Ran } from './installation.ts'

/**
 * A scenario is a text that tells what was typed and what came of it. Running it writes the same text anew; the test is
 * that the two are equal. Lines begin with
 *
 *     #   a remark             $   a command: pawl …         &   something happens (an action of the test)
 *     <   a line of its stdin  >   a line of its stdout      !   a line of its stderr      =   its exit code, where it is not 0
 *     @   how it is run from here on: `terminal 80`, `pipe`, `NAME=VALUE`, `NAME=`
 *     +   a file `PATH MODE` in $TMP, and its lines, each behind `|`
 *
 * $DATA, $TMP, $URL, $TOKEN, and what an action has learnt, stand for what differs from run to run; $SECRET and $HASH for any. An escape character is written `^[`.
 */
export interface Scenario {
  readonly installation: Installation
  readonly temporary: string
  /** Values that actions found out, by the name that stands for them: `$CODE`. */
  readonly learnt: Map<string, string>
  /** What lines with `&` do, by their text. */
  readonly actions: Readonly<Record<string, (argument: string) => Promise<void>>>
}

/** Runs a scenario; returns it as it went. */
export async function runScenario(scenario: Scenario, text: string): Promise<string> {
  const went: string[] = []
  const env: Record<string, string> = {}
  let terminal: number | undefined
  let stdin: string[] = []
  const lines = text.split('\n')
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index] ?? ''
    const [mark, rest] = [line.slice(0, 1), expand(scenario, line.slice(2))]
    if (mark === '>' || mark === '!' || mark === '=') continue // written anew below
    went.push(line)
    if (mark === '<') stdin.push(decoded(rest))
    if (mark === '&') await act(scenario, rest)
    if (mark === '@') {
      const [, name, value] = /^(\w+)=(.*)$/.exec(rest) ?? []
      if (name !== undefined) env[name] = value ?? ''
      else terminal = rest === 'pipe' ? undefined : Number(rest.slice('terminal '.length))
    }
    if (mark === '+') {
      const content: string[] = []
      for (; lines[index + 1]?.startsWith('|'); index += 1) content.push((lines[index + 1] ?? '').slice(2))
      went.push(...content.map((own) => `| ${own}`.trimEnd()))
      writeFile(scenario, rest, content)
    }
    if (mark === '$') {
      const [program, ...argv] = words(decoded(rest))
      if (program !== 'pawl') throw new Error(`not a pawl command: ${rest}`)
      const ran = await scenario.installation.run(argv, {
        env,
        terminal,
        stdin: stdin.length === 0 ? '' : `${stdin.join('\n')}\n`,
      })
      stdin = []
      went.push(...resultOf(scenario, ran))
    }
  }
  return went.join('\n')
}

function resultOf(scenario: Scenario, { exit, stdout, stderr }: Ran): string[] {
  const shown = (mark: string, text: string): string[] =>
    text === ''
      ? []
      : text
          .replace(/\n$/, '')
          .split('\n')
          .map((line) =>
            `${mark} ${contract(scenario, line.replaceAll('\u001b', '^[').replaceAll('\r', '\\r'))}`.trimEnd(),
          )
  return [...shown('>', stdout), ...shown('!', stderr), ...(exit === 0 ? [] : [`= ${exit}`])]
}

async function act({ actions }: Scenario, text: string): Promise<void> {
  const name = Object.keys(actions)
    .sort((a, b) => b.length - a.length)
    .find((known) => text === known || text.startsWith(`${known} `))
  if (name === undefined) throw new Error(`no such action: ${text}`)
  await actions[name]?.(decoded(text.slice(name.length + 1)))
}

function writeFile({ temporary }: Scenario, line: string, content: readonly string[]): void {
  const [path = '', mode = '0644'] = line.split(' ')
  const file = path.startsWith('/') ? path : join(temporary, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, content.map((own) => `${decoded(own)}\n`).join(''), 'latin1')
  chmodSync(file, Number.parseInt(mode, 8))
}

function places({ installation, temporary, learnt }: Scenario): [string, string][] {
  const { dataDir, url, token } = installation
  return [['$DATA', dataDir], ['$TMP', temporary], ['$URL', url], ['$TOKEN', token], ...learnt]
}

function expand(scenario: Scenario, text: string): string {
  return places(scenario).reduce((expanded, [name, value]) => expanded.replaceAll(name, value), text)
}

function contract(scenario: Scenario, text: string): string {
  return places(scenario)
    .reduce((contracted, [name, value]) => contracted.replaceAll(value, name), text)
    .replace(/(?<![\w-])[\w-]{44}(?![\w-])/g, '$SECRET')
    .replace(/(?<![\w-])[\w-]{43}(?![\w=-])/g, '$KEY')
    .replace(/whsec_[A-Za-z0-9+/]{43}=/g, 'whsec_$SECRET')
    .replace(/\b[0-9a-f]{64}\b/g, '$HASH')
}

function decoded(text: string): string {
  return text
    .replaceAll('^[', '\u001b')
    .replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

/** Words as a shell reads them, with single and double quotes. */
function words(line: string): string[] {
  const found = line.match(/(?:[^\s'"]|'[^']*'|"[^"]*")+/g) ?? []
  return found.map((word) => word.replace(/'([^']*)'|"([^"]*)"/g, '$1$2'))
}
