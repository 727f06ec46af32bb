/** The last lines of a console: hostile bytes until they are cleaned here, and shown as text wherever they are shown. */

/** What is kept of one console. */
export const maxConsoleBytes = 64 * 1024

const hidden = '***'

/** What secrets look like that could stand on a console. Agents mask the ones they know; this is for what they do not. */
const secrets: readonly (readonly [RegExp, string])[] = [
  [
    /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g,
    `${hidden} private key ${hidden}`,
  ],
  [/\b(bearer|basic)([ \t]+)[^\s"']+/gi, `$1$2${hidden}`],
  [/([?&;](?:k|c|key|token|secret|capability|password)=)[^&\s"']+/gi, `$1${hidden}`],
  // A token of ours: 44 base64url characters, of which the first 12 are its name.
  [/(?<![\w-])([\w-]{12})[\w-]{32}(?![\w-])/g, `$1${hidden}`],
  // kubeadm's bootstrap token.
  [/(?<![\w.-])([a-z0-9]{6}\.)[a-z0-9]{16}(?![\w.-])/g, `$1${hidden}`],
  // Of k3s and RKE2, where the hash of the CA is no secret; and Tailscale's keys.
  [/(K10[0-9a-f]{64}::)[^\s"']+/g, `$1${hidden}`],
  [/(tskey-[a-z]+-)[\w-]+/g, `$1${hidden}`],
]

const esc = String.fromCharCode(27)
const bell = String.fromCharCode(7)
/** CSI, OSC, and the other strings of ECMA-48 with what they carry; an escape by itself takes what follows along. */
const escapes = new RegExp(
  `${esc}(?:\\[[0-?]*[ -/]*[@-~]|\\][^${bell}${esc}]{0,1000}(?:${bell}|${esc}\\\\)?|[PX^_][^${esc}]{0,1000}(?:${esc}\\\\)?|.?)`,
  'g',
)
/** Control characters but for tabs and line ends; and what turns text round, hides in it, or is a line end to some. */
const invisible = /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu

/**
 * Console bytes as text: the last 64 KiB, whole lines where there are any, valid UTF-8 (what is none is U+FFFD), lines that end in `\n`, no
 * escape sequences, no control characters, nothing that looks like a secret of ours.
 */
export function cleanConsole(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes.subarray(-4 * maxConsoleBytes))
  const plain = secrets.reduce(
    (so, [pattern, replacement]) => so.replace(pattern, replacement),
    text.replace(/\r+\n/g, '\n').replace(escapes, '').replace(/\r/g, '\n').replace(invisible, ''),
  )
  return lastBytes(plain.toWellFormed())
}

function lastBytes(text: string): string {
  const bytes = new TextEncoder().encode(text)
  if (bytes.length <= maxConsoleBytes) return text
  const tail = bytes.subarray(-maxConsoleBytes)
  const newline = tail.indexOf(10)
  // A line that is longer than all of it is cut between characters: the first byte of each is none of 10xxxxxx.
  const start =
    newline >= 0 && newline < tail.length - 1 ? newline + 1 : tail.findIndex((byte) => (byte & 0xc0) !== 0x80)
  return new TextDecoder().decode(tail.subarray(start))
}
