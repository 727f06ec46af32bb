/** Writes the manual page from docs/cli.md: `node man.mjs CLI.MD VERSION EPOCH`. */
import { readFileSync } from 'node:fs'

const [file = '', version = '', epoch = '0'] = process.argv.slice(2)
const date = new Date(Number(epoch) * 1000).toISOString().slice(0, 10)
const escaped = (text) => text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replace(/^(['.])/gm, '\\&$1')
const row = /^\| (.*?) \| (.*) \|$/
const plain = (text) => escaped(text.replaceAll('`', '').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1'))
const out = [
  `.TH PAWL 1 "${date}" "Pawl ${version}" "User Commands"`,
  '.SH NAME',
  'pawl \\- secure network boot for bare\\-metal fleets',
  '.SH SYNOPSIS',
  '.B pawl',
  '[\\-\\-data DIR] [\\-\\-json] COMMAND ...',
  '.SH COMMANDS',
]
let isCode = false
for (const line of readFileSync(file, 'utf8').replaceAll('…', '...').split('\n')) {
  if (line.startsWith('```')) {
    isCode = !isCode
    out.push(isCode ? '.nf' : '.fi')
  } else if (isCode) out.push(line === '' ? '.sp' : escaped(line))
  else if (line.startsWith('# ')) continue
  else if (/^#+ /.test(line)) out.push(`.SS ${plain(line.replace(/^#+ /, ''))}`)
  else if (/^\|[-| ]+\|$/.test(line) || line.startsWith('| |')) continue
  else if (row.test(line)) out.push('.TP', `.B ${plain(row.exec(line)[1])}`, plain(row.exec(line)[2]))
  else out.push(line.trim() === '' ? '.PP' : plain(line))
}
process.stdout.write(`${out.join('\n')}\n.SH FILES\n.TP\n/var/lib/pawl\nthe data folder of the service\n.TP\n/etc/default/pawl\nits settings as variables\n`)
