import type { Candidates, CompletedCommand } from './completion.ts'

/** The shells that a completion can be made for. */
export const shells = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof shells)[number]

/** The script of one shell, made of the commands there are. Names are asked of `pawl complete` when they are needed. */
export function completionScript(shell: Shell, commands: readonly CompletedCommand[]): string {
  if (shell === 'fish') return fishScript(commands)
  return `${shell === 'bash' ? bashHead : zshHead}\n${specFunction(commands)}\n${shell === 'bash' ? bashBody : zshBody}`
}

/** One word for what can stand at a place: `file`, `folder`, `anything`, `words:a,b` or `names:nodes`. */
function wordOf(candidates: Candidates): string {
  if (candidates.kind === 'words') return `words:${candidates.words.join(',')}`
  return candidates.kind === 'names' ? `names:${candidates.of}` : candidates.kind
}

/** The table of all commands as a function that bash and zsh both read. */
function specFunction(commands: readonly CompletedCommand[]): string {
  const cases = commands.map(({ path, commands: children, flags, args, variadic }) => {
    const values = flags.flatMap(({ names, value }) =>
      value === undefined ? [] : names.map((name) => `${name}=${wordOf(value)}`),
    )
    const lines = [
      `commands='${children.join(' ')}'`,
      `flags='${flags.flatMap(({ names }) => names.filter((name) => name.startsWith('--'))).join(' ')}'`,
      `values='${values.join(' ')}'`,
      `args='${args.map(wordOf).join(' ')}'`,
      `variadic='${variadic ? '1' : ''}'`,
    ]
    return `    '${path}') ${lines.join(' ')} ;;`
  })
  return `_pawl_spec() {\n  case "$1" in\n${cases.join('\n')}\n  esac\n}\n`
}

/** What bash and zsh do with each word that was typed: which command it leads to, and what is still open. */
const followWords = `    if [[ -n $pending ]]; then
      if [[ $pending == --data || $pending == --context ]]; then data+=("$pending" "$word"); fi
      pending=''
    elif [[ -z $literal && $word == -- ]]; then
      literal=1
    elif [[ -z $literal && $word == -* ]]; then
      if [[ $word == --data=* || $word == --context=* ]]; then data+=("$word"); fi
      if [[ $word != *=* && " $values" == *" $word="* ]]; then pending=$word; fi
    elif [[ " $commands " == *" $word "* ]]; then
      at=\${at:+$at }$word
      _pawl_spec "$at"
    else
      count=$((count + 1))
    fi
`

const bashHead = `# Completion of pawl for bash 4 and later. Made by: pawl completion bash
# Load it with:  source <(pawl completion bash)`

// Words are split at white space here: bash would split at ":", "=" and "@" too, which names hold.
const bashBody = `_pawl() {
  local line=\${COMP_LINE:0:COMP_POINT} cur='' at='' word='' pending='' literal='' count=0 kind='' held=''
  local commands='' flags='' values='' args='' variadic=''
  local -a typed=() data=() found=()
  COMPREPLY=()
  read -ra typed <<< "$line"
  if [[ $line != *[[:space:]] ]]; then
    cur=\${typed[\${#typed[@]} - 1]}
    unset "typed[\${#typed[@]} - 1]"
  fi
  _pawl_spec ''
  for word in "\${typed[@]:1}"; do
${followWords}  done
  if [[ -z $pending && -z $literal && $cur == --*=* ]]; then
    pending=\${cur%%=*}
    held=$pending=
    cur=\${cur#*=}
  fi
  if [[ -n $pending ]]; then
    for word in $values; do
      [[ $word == "$pending="* ]] && kind=\${word#*=}
    done
  elif [[ -z $literal && $cur == -* ]]; then
    kind=words:\${flags// /,}
  elif [[ -n $commands ]]; then
    kind=words:\${commands// /,}
  else
    for word in $args; do
      if [[ $count -eq 0 || -n $variadic ]]; then kind=$word; fi
      if [[ $count -eq 0 ]]; then break; fi
      count=$((count - 1))
    done
  fi
  case $kind in
    words:*) IFS=, read -ra found <<< "\${kind#words:}" ;;
    names:*) mapfile -t found < <("\${typed[0]}" "\${data[@]}" complete "\${kind#names:}" -- "$cur" 2> /dev/null) ;;
    file) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    folder) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
  esac
  # Readline replaces what follows the last of its word breaks (an "@" with it): so much of each candidate is there already.
  local whole=$held$cur before=''
  if [[ $whole == *[:=@]* ]]; then before=\${whole%"\${whole##*[:=@]}"}; before=\${before%@}; fi
  for word in "\${found[@]}"; do
    if [[ $word == "$cur"* ]]; then
      word=$held$word
      COMPREPLY+=("\${word#"$before"}")
    fi
  done
}
complete -F _pawl pawl
`

const zshHead = `#compdef pawl
# Completion of pawl for zsh. Made by: pawl completion zsh
# Load it with:  source <(pawl completion zsh), or as a file named _pawl in a folder of $fpath`

const zshBody = `_pawl() {
  local cur=$PREFIX at='' word='' pending='' literal='' kind=''
  local commands='' flags='' values='' args='' variadic=''
  local -i count=0
  local -a data=() found=()
  _pawl_spec ''
  for word in "\${(@)words[2,CURRENT-1]}"; do
${followWords}  done
  if [[ -z $pending && -z $literal && $cur == --*=* ]]; then
    pending=\${cur%%=*}
    compset -P '*='
    cur=\${cur#*=}
  fi
  if [[ -n $pending ]]; then
    for word in \${=values}; do
      [[ $word == "$pending="* ]] && kind=\${word#*=}
    done
  elif [[ -z $literal && $cur == -* ]]; then
    kind=words:\${flags// /,}
  elif [[ -n $commands ]]; then
    kind=words:\${commands// /,}
  else
    for word in \${=args}; do
      if [[ $count -eq 0 || -n $variadic ]]; then kind=$word; fi
      if [[ $count -eq 0 ]]; then break; fi
      count=$((count - 1))
    done
  fi
  case $kind in
    words:*) found=("\${(@s:,:)kind#words:}") ;;
    names:*) found=("\${(@f)$("\${words[1]}" "\${(@)data}" complete "\${kind#names:}" -- "$cur" 2> /dev/null)}") ;;
    file) _files; return ;;
    folder) _files -/; return ;;
  esac
  compadd -- "\${(@)found:#}"
}
if [[ $funcstack[1] == _pawl ]]; then _pawl "$@"; else compdef _pawl pawl; fi
`

function fishScript(commands: readonly CompletedCommand[]): string {
  const valued = commands.flatMap(({ path, flags }) =>
    flags.flatMap(({ names, value }) =>
      value === undefined ? [] : names.map((name) => `'${path}|${name}'`),
    ),
  )
  const lines = commands.flatMap((command) => fishLines(command, commands))
  return `# Completion of pawl for fish. Made by: pawl completion fish
# Load it with:  pawl completion fish | source
set -g __pawl_paths ${commands.flatMap(({ path }) => (path === '' ? [] : `'${path}'`)).join(' ')}
set -g __pawl_valued ${valued.join(' ')}
function __pawl_path
    set -l at ''
    set -l skip 0
    for token in (commandline -opc)[2..]
        if test $skip = 1
            set skip 0
        else if string match -q -- '-*' $token
            contains -- "$at|$token" $__pawl_valued; and set skip 1
        else if contains -- (string trim -- "$at $token") $__pawl_paths
            set at (string trim -- "$at $token")
        end
    end
    echo $at
end
function __pawl_at
    test (__pawl_path) = "$argv[1]"
end
function __pawl_names
    set -l typed (commandline -opc)
    set -l data
    for index in (seq (count $typed))
        if contains -- $typed[$index] --data --context
            set -a data $typed[$index] $typed[(math $index + 1)]
        else if string match -qr -- '^--(data|context)=' $typed[$index]
            set -a data $typed[$index]
        end
    end
    $typed[1] $data complete $argv[1] -- (commandline -ct) 2>/dev/null
end
complete -c pawl -e
complete -c pawl -f
${lines.join('\n')}
`
}

function fishLines(command: CompletedCommand, all: readonly CompletedCommand[]): string[] {
  const { path, commands, flags, args } = command
  const here = `complete -c pawl -n "__pawl_at '${path}'"`
  const children = commands.map((name) => {
    const child = all.find((one) => one.path === `${path} ${name}`.trim())
    return `${here} -a ${name} -d ${quoted(firstSentence(child?.description ?? ''))}`
  })
  const own = flags.map(({ names, description, value }) => {
    const spelled = names.map((name) =>
      name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
    )
    return `${here} ${spelled.join(' ')}${value === undefined ? '' : fishValue(value)} -d ${quoted(description)}`
  })
  const [first] = args
  const argument = first === undefined || commands.length > 0 ? '' : fishValue(first).replace(/^ -[rx]/, '')
  return [...children, ...own, ...(argument.trim() === '' ? [] : [`${here}${argument}`])]
}

/** A value is required (`-r`), and where it is no file, files are not offered (`-x`). */
function fishValue(value: Candidates): string {
  if (value.kind === 'words') return ` -x -a ${quoted(value.words.join(' '))}`
  if (value.kind === 'names') return ` -x -a '(__pawl_names ${value.of})'`
  if (value.kind === 'anything') return ' -x'
  return value.kind === 'file' ? ' -r -F' : " -x -a '(__fish_complete_directories)'"
}

function firstSentence(text: string): string {
  return /^[^.:]*/.exec(text)?.[0] ?? text
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
