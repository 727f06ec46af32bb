/**
 * Settings: what the flags, the environment, the file `DIR/pawl.yaml` and the defaults say, in this order. The table of
 * all settings is in `config-table.ts`. Nothing here reads the process: `main.ts` hands over what there is.
 */
import { join } from 'node:path'
import { type FileSettings, readSettingsFile } from './config-file.ts'
import { type Setting, type SettingName, settings } from './config-table.ts'
import { ValueFault } from './config-values.ts'
import { PawlError } from './errors.ts'

export { formatListen, type ListenAddress, type LogLevel } from './config-values.ts'

type Table = typeof settings
type Value<Name extends SettingName> = ReturnType<Table[Name]['parse']>
type Loaded<Name extends SettingName> = Table[Name] extends { many: true }
  ? readonly Value<Name>[]
  : Table[Name]['default'] extends string
    ? Value<Name>
    : Value<Name> | undefined

/** All settings, parsed. `publicUrl` is undefined where nothing says it; `database` is always known. */
export type Config = { readonly [Name in Exclude<SettingName, 'database'>]: Loaded<Name> } & {
  readonly database: string
}

/** Where settings come from. */
export interface ConfigSources {
  /** By the flag's name in camel case, as the command line parser gives them: `--boot-listen` is `bootListen`. Others are passed over. */
  readonly flags: Readonly<Record<string, unknown>>
  readonly env: Readonly<Record<string, string | undefined>>
  /** What the settings file holds; undefined where there is none. */
  readonly fileText?: string | undefined
  /** Its name, for errors. */
  readonly fileName: string
}

/** Texts given for one setting, and where. */
interface Given {
  readonly texts: readonly string[]
  readonly from: string
}

/** Reads all settings; throws `usage` naming the setting, where it came from, its value and the limit. */
export function loadConfig(sources: ConfigSources): Config {
  const file = readSettingsFile(sources.fileText, sources.fileName)
  const entries = Object.entries(settings).map(([name, setting]) => [
    name,
    load(name, setting, sources, file),
  ])
  const config: Config = Object.fromEntries(entries) // one entry for each setting, of its parser's type
  checkTogether(config)
  return Object.freeze({ ...config, database: config.database ?? join(config.dataDir, 'pawl.db') })
}

/** The data folder, which must be known before the settings file in it can be read; throws `usage`. */
export function dataDirOf(sources: Pick<ConfigSources, 'flags' | 'env'>): string {
  const given = find('dataDir', settings.dataDir, { ...sources, fileName: '' }, new Map())
  return parseOne(
    'dataDir',
    settings.dataDir,
    given?.texts[0] ?? settings.dataDir.default,
    given?.from ?? 'default',
  )
}

function load(name: string, setting: Setting<unknown>, sources: ConfigSources, file: FileSettings): unknown {
  const given = find(name, setting, sources, file)
  if (given === undefined) {
    if (setting.many) return Object.freeze([])
    return setting.default === null ? undefined : parseOne(name, setting, setting.default, 'default')
  }
  const values = given.texts.map((text) => parseOne(name, setting, text, given.from))
  return setting.many ? Object.freeze([...new Set(values)]) : values[0]
}

/** The first source that says something wins; an empty variable says nothing. */
function find(
  name: string,
  setting: Setting<unknown>,
  sources: ConfigSources,
  file: FileSettings,
): Given | undefined {
  const flag = sources.flags[flagKey(setting.flag)]
  if (flag !== undefined) return { texts: [flag].flat().map(String), from: `flag ${setting.flag}` }
  const variable = sources.env[setting.env]
  if (variable !== undefined && variable !== '') {
    const texts = setting.many ? variable.split(',').map((text) => text.trim()) : [variable]
    return { texts, from: `variable ${setting.env}` }
  }
  return file.get(name)
}

function parseOne<T>(name: string, setting: Setting<T>, text: string, from: string): T {
  try {
    return setting.parse(text)
  } catch (error) {
    if (!(error instanceof ValueFault)) throw error
    const shown = setting.secret ? 'what it holds' : JSON.stringify(text.slice(0, 200))
    throw new PawlError('usage', `${name} (${from}): ${shown} is not ${error.message}`)
  }
}

/** `--boot-listen` is `bootListen` among parsed flags. */
function flagKey(flag: string): string {
  return flag.slice(2).replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
}

/** Limits that two settings set for each other. */
function checkTogether(config: Config): void {
  const { sessionIdleSeconds, sessionMaxSeconds, signInIdleSeconds, signInMaxSeconds } = config
  if (sessionMaxSeconds < sessionIdleSeconds) {
    throw new PawlError(
      'usage',
      `sessionMaxSeconds ${sessionMaxSeconds} is below sessionIdleSeconds ${sessionIdleSeconds}`,
    )
  }
  if (signInMaxSeconds < signInIdleSeconds) {
    throw new PawlError(
      'usage',
      `signInMaxSeconds ${signInMaxSeconds} is below signInIdleSeconds ${signInIdleSeconds}`,
    )
  }
  checkProvider(config)
  // Node listens twice for localhost, once a family, and only the first would ask for PROXY headers.
  if (config.proxyProtocolFrom.length > 0 && config.bootListen.host === 'localhost') {
    throw new PawlError('usage', 'bootListen names localhost, and proxyProtocolFrom is set', {
      hint: 'listen on 127.0.0.1 or [::1], or on [::] for both',
    })
  }
  checkCertificateFiles(config)
}

/** A certificate without its key, or one that nobody would be told how to trust. */
function checkCertificateFiles(config: Config): void {
  const together: [SettingName, SettingName[]][] = [
    ['bootCertFile', ['bootKeyFile', 'bootCaFile']],
    ['bootKeyFile', ['bootCertFile']],
    ['bootCaFile', ['bootCertFile']],
    ['bootEcdsaCertFile', ['bootEcdsaKeyFile', 'bootCertFile']],
    ['bootEcdsaKeyFile', ['bootEcdsaCertFile']],
    ['operatorCertFile', ['operatorKeyFile', 'operatorCaFile']],
    ['operatorKeyFile', ['operatorCertFile']],
    ['operatorCaFile', ['operatorCertFile']],
    ['oldBootListen', ['oldPublicUrl']],
    ['oldPublicUrl', ['oldBootListen']],
  ]
  for (const [name, needed] of together) {
    const missing = config[name] === undefined ? undefined : needed.find((one) => config[one] === undefined)
    if (missing !== undefined) throw new PawlError('usage', `${missing} is missing: ${name} needs it`)
  }
  if (config.oldPublicUrl !== undefined && config.oldPublicUrl === config.publicUrl)
    throw new PawlError('usage', `oldPublicUrl and publicUrl are the same: ${config.publicUrl}`, {
      hint: 'two roots need two names or ports: give publicUrl the new one',
    })
}

/** A provider that is half set up would let nobody in, or be forgotten about. */
function checkProvider(config: Config): void {
  const { oidcIssuer, oidcClientId, oidcClientSecretFile, operatorUrl, oidcRoles, oidcScopes } = config
  const need = (found: boolean, setting: SettingName, why: string): void => {
    if (!found) throw new PawlError('usage', `${setting} is missing: ${why}`)
  }
  if (oidcIssuer === undefined) {
    const given = oidcClientId !== undefined || oidcClientSecretFile !== undefined || oidcRoles.length > 0
    need(!given, 'oidcIssuer', 'settings of a provider are given without the provider')
    return
  }
  need(oidcClientId !== undefined, 'oidcClientId', 'the provider asks who we are')
  need(operatorUrl !== undefined, 'operatorUrl', 'the provider sends browsers back there')
  need(oidcRoles.length > 0, 'oidcRoles', 'nobody could sign in without a group that has a role')
  need(oidcScopes.length === 0 || oidcScopes.includes('openid'), 'oidcScopes', 'it must hold openid')
}
