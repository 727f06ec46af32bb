import { named, type Setting } from './config-setting.ts'
import { wholeNumber, zeroOr } from './config-values.ts'

const day = 86_400

/** When a boot is slow, when it is stuck, and when a node boots too often. */
export const paceSettings = {
  slowPercent: {
    ...named('slow-percent', 'count', '150'),
    meaning:
      'A boot stage is slow that takes longer than so many percent of the p99 of the last boots; what a profile states under `expect` is taken as it is.',
    parse: wholeNumber(100, 10_000),
  },
  stuckPercent: {
    ...named('stuck-percent', 'count', '300'),
    meaning:
      'It is stuck beyond so many percent of the time after which it is slow, unless its download moves.',
    parse: wholeNumber(100, 10_000),
  },
  stuckSilenceSeconds: {
    ...named('stuck-silence-seconds', 'seconds', '600'),
    meaning: 'A slow boot that nothing was heard of for so long is stuck, too.',
    parse: wholeNumber(10, day),
  },
  loopStage1s: {
    ...named('loop-stage1s', 'count', '3'),
    meaning:
      'A node that was served stage 1 so often without a report between loops: it waits 30 s and then up to 10 minutes before each further boot. 0 turns it off.',
    parse: zeroOr(2, 1000),
  },
  loopWindowSeconds: {
    ...named('loop-window-seconds', 'seconds', '3600'),
    meaning: 'Within this time.',
    parse: wholeNumber(60, day),
  },
} as const satisfies Readonly<Record<string, Setting<unknown>>>
