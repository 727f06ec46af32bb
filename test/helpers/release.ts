import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { temporaryFolder } from '../backup/helpers.ts'

/** The release before this one. */
export const previous = { version: '0.5.0', commit: 'bb5e765' } as const
/** This release. */
export const root = join(import.meta.dirname, '../..')

/** Why there is no release before; undefined where there is. Nobody can make one from a clone without history, CI included. */
export const previousAbsent: string | undefined =
  spawnSync('git', ['cat-file', '-e', `${previous.commit}^{commit}`], { cwd: root }).status === 0
    ? undefined
    : `this clone has no history: commit ${previous.commit}, release ${previous.version}, is not in it`

/** Unpacks the release before, with the packages of this one: it used no other. Returns its folder. */
export function checkoutPrevious(t: Test): string {
  const folder = join(temporaryFolder(t), 'old')
  mkdirSync(folder)
  const archive = execFileSync('git', ['archive', previous.commit], { cwd: root, maxBuffer: 2 ** 28 })
  execFileSync('tar', ['-x', '-C', folder], { input: archive })
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  return folder
}
