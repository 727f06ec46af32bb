import fc from 'fast-check'
import t from 'tap'
import {
  checkCommandLine,
  joinKernelArguments,
  parseKernelArguments,
  reservedArguments,
} from '../../src/domain/kernel-args.ts'

t.test('refuses what an iPXE line or the kernel cannot carry, naming the word', async (t) => {
  const refused = [
    'console=ttyS0\n',
    'a\tb',
    'a\r',
    'a\0b',
    'grüße',
    'a\u00a0b',
    'a=$' + '{net0/mac}', // not a template of ours
    'quiet ${',
    '#comment',
    'quiet # comment',
    'a || b',
    'a && b',
    'a ; b',
    'a;b',
    'a||b',
    'a\\',
    'dyndbg="file a.c +p"',
    "a='b'",
    'a=`b`',
    'quiet -- single',
  ]
  for (const text of refused)
    t.throws(() => parseKernelArguments(text), { code: 'invalid' }, JSON.stringify(text))
  t.throws(() => parseKernelArguments('quiet a;b'), { message: /^kernel argument "a;b" holds/ })
})

t.test('refuses a command line that the kernel would cut', async (t) => {
  t.throws(() => parseKernelArguments('a'.repeat(2048)), {
    code: 'invalid',
    message: /2048 bytes, more than 2047/,
  })
  t.throws(() => checkCommandLine('a'.repeat(2048)), { code: 'invalid' })
  t.throws(() => checkCommandLine('ä'.repeat(1024)), { code: 'invalid' }, 'bytes count, not characters')
  t.equal(checkCommandLine('a'.repeat(2047)).length, 2047)
  t.equal(parseKernelArguments('a'.repeat(2047)).length, 2047)
})

t.test('takes what kernels are given in practice', async (t) => {
  const taken = [
    '',
    'quiet',
    'console=tty0 console=ttyS0,115200n8',
    'root=UUID=0b3c-11 ro rd.luks.options=discard',
    'memmap=64K$0x18000000 memmap=64K#0x18000000',
    'isolcpus=1-3,!2 ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:off',
    'modprobe.blacklist=a,b net.ifnames=0 pci=nomsi|noaer -x',
  ]
  for (const text of taken) t.equal(parseKernelArguments(text), text)
  t.equal(parseKernelArguments('  quiet   ro '), 'quiet ro')
})

t.test('flags the arguments that only an admin may publish', async (t) => {
  const args =
    'quiet init=/bin/sh INIT=/x rdinit=/x initrd=a pawl.node=x epoxy.stage2=y initcall_debug my.init=1 pawl'
  t.strictSame(reservedArguments(args), [
    'init=/bin/sh',
    'INIT=/x',
    'rdinit=/x',
    'initrd=a',
    'pawl.node=x',
    'epoxy.stage2=y',
  ])
  t.strictSame(reservedArguments('quiet ro'), [])
})

t.test('joins the image’s arguments and the profile’s', async (t) => {
  t.equal(joinKernelArguments('quiet', 'ro'), 'quiet ro')
  t.equal(joinKernelArguments('', ' ro  rw ', ''), 'ro rw')
  t.equal(joinKernelArguments('', ''), '')
})

t.test('what it returns it reads back to the same, and one line of iPXE carries it', async (t) => {
  const word = fc.string({ unit: fc.constantFrom(...'ab1=.,;|&#$\\{}"\' \t\n-ü') })
  fc.assert(
    fc.property(fc.oneof(word, fc.string({ unit: 'binary' })), (text) => {
      let parsed: string
      try {
        parsed = parseKernelArguments(text)
      } catch {
        return true
      }
      const words = parsed === '' ? [] : parsed.split(' ')
      const plain = words.every((each) => /^[!-~]+$/.test(each) && !/^#|^(\|\||&&|;|--)$|\\$/.test(each))
      return parseKernelArguments(parsed) === parsed && plain && !parsed.includes('${')
    }),
    { numRuns: 1000 },
  )
  t.pass()
})
