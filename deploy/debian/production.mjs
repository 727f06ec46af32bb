/** Lists the folders of the packages that run the product, by the lock file: `node production.mjs LOCK NODE-PACKAGE`. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { existsSync } from 'node:fs'

const [lock = '', node = ''] = process.argv.slice(2)
const { packages } = JSON.parse(readFileSync(lock, 'utf8'))
const root = dirname(lock)
const fits = (list, own) => list === undefined || list.includes(own)
const chosen = Object.entries(packages).filter(([path, { dev, devOptional, optional, os, cpu }]) => {
  if (path === '' || dev || devOptional) return false
  if (/^node_modules\/node-linux-/.test(path)) return path === `node_modules/${node}`
  if (!fits(os, process.platform) || !fits(cpu, process.arch)) return false
  return !optional || existsSync(join(root, path))
})
// A package inside another one comes with it.
const top = chosen.map(([path]) => path).filter((path) => path.lastIndexOf('node_modules/') === 0)
process.stdout.write(`${top.sort().join('\n')}\n`)
