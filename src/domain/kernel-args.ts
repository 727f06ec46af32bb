/**
 * Kernel arguments pass through an iPXE script (stage 1) and a kexec call (stage 2). iPXE splits a line at white space, knows no
 * quoting, and expands `${…}` again and again; so what it cannot carry unchanged is refused here, never escaped.
 */
import { PawlError } from '../errors.ts'
import { quote } from './node.ts'

/** x86 kernels take 2048 bytes with the final NUL (COMMAND_LINE_SIZE), and iPXE under BIOS cuts what is longer silently. */
export const maxCommandLineBytes = 2047

/** What stage 1's script and iPXE put before the arguments under UEFI: the image's name, and the name its initrds have. */
export const ipxeCommandLineStart = 'kernel initrd=initrd.magic '

/** What may not be in a word, and why: the first rule that fits is told. */
const unfitWords: readonly (readonly [RegExp, string])[] = [
  [/[^!-~]/, 'holds characters that are not printable ASCII'],
  [/\$\{/, 'holds "${", which iPXE expands'],
  [/^#/, 'begins with "#", which begins a comment in iPXE'],
  [/\|\||&&|;/, 'holds "||", "&&" or ";", which separate commands in iPXE'],
  [/\\/, 'holds a backslash, which joins lines in iPXE'],
  // One unbalanced quote makes the kernel take all that follows, the profile's arguments too, as one value.
  [/["'`]/, 'holds a quote: iPXE has no quoting, and the kernel would join the words that follow'],
  // What follows "--" is init's, and the profile's arguments are added behind the image's.
  [/^--$/, 'is "--", behind which the kernel would not read the arguments that are added later'],
]

/** Arguments that choose what runs as init or which initramfs is used, and those the boot itself sets. */
const reserved = /^(initrd=|init=|rdinit=|pawl\.|epoxy\.)/i

/**
 * Reads kernel arguments: words of printable ASCII, spaces between them. Returns them with one space between words and none
 * around; throws `invalid` naming the word. What it returns it reads back to the same.
 */
export function parseKernelArguments(text: string): string {
  const words = split(text)
  for (const word of words) {
    const fault = unfitWords.find(([pattern]) => pattern.test(word))
    if (fault !== undefined) throw new PawlError('invalid', `kernel argument ${quote(word)} ${fault[1]}`)
  }
  return checkCommandLine(words.join(' '))
}

/** The arguments that only an admin may publish, as written; `args` has been parsed. */
export function reservedArguments(args: string): string[] {
  return split(args).filter((word) => reserved.test(word))
}

/** The image's arguments, then the profile's: where one is given twice the kernel takes the last. Checks no limit. */
export function joinKernelArguments(...parts: readonly string[]): string {
  return parts.flatMap(split).join(' ')
}

/** Returns a rendered command line, all of it; throws `invalid` where the kernel would not see its end. */
export function checkCommandLine(line: string): string {
  const bytes = Buffer.byteLength(line)
  if (bytes > maxCommandLineBytes) {
    throw new PawlError(
      'invalid',
      `the kernel command line has ${bytes} bytes, more than ${maxCommandLineBytes}`,
      {
        hint: "shorten the image's or the profile's kernel arguments",
      },
    )
  }
  return line
}

function split(text: string): string[] {
  return text.split(' ').filter((word) => word !== '')
}
