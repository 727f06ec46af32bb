import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../helpers/ports.ts'

/** nginx as Debian ships it, one worker, with the certificates of the Pawl it is compared with. */
export interface NginxSide {
  readonly pid: number
  readonly port: number
  stop(): Promise<void>
}

/** What it serves. */
export interface NginxOptions {
  /** Pawl's data folder: its certificates are taken. */
  readonly dataDir: string
  /** Files by name, given as another name of the same file: both sides then read the same pages of memory. */
  readonly files: Readonly<Record<string, string>>
  /** Small files by name. */
  readonly texts: Readonly<Record<string, string>>
}

/** Why it cannot be run; undefined where it can. */
export function nginxAbsent(): string | undefined {
  return spawnSync('nginx', ['-v'], { stdio: 'ignore' }).status === 0 ? undefined : 'nginx is not installed'
}

/** Starts it. */
export async function startNginx({ dataDir, files, texts }: NginxOptions): Promise<NginxSide> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-bench-nginx-'))
  const root = join(folder, 'root')
  mkdirSync(root)
  for (const [name, path] of Object.entries(files)) linkSync(path, join(root, name))
  for (const [name, text] of Object.entries(texts)) writeFileSync(join(root, name), text)
  const certificates = ['boot', 'boot-ecdsa'].map((name) => {
    // One file has key and certificate, which nginx takes for both; the chain as Pawl sends it, since its bytes count too.
    const file = join(folder, `${name}.pem`)
    const chain = [`pki/${name}.pem`, 'pki/issuing.crt', 'ca.crt'].map((part) =>
      readFileSync(join(dataDir, part)),
    )
    writeFileSync(file, Buffer.concat(chain), { mode: 0o600 })
    return `ssl_certificate ${file}; ssl_certificate_key ${file};`
  })
  const port = await freePort()
  const configuration = join(folder, 'nginx.conf')
  writeFileSync(configuration, configurationOf({ folder, root, port, certificates }))
  const child = spawn('nginx', ['-c', configuration, '-p', folder], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  await untilListening(port, () => child.exitCode)
  return {
    pid: child.pid ?? 0,
    port,
    stop: async () => {
      const ended = once(child, 'close')
      child.kill('SIGTERM')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

interface Places {
  readonly folder: string
  readonly root: string
  readonly port: number
  readonly certificates: readonly string[]
}

/** Debian's own nginx.conf where it matters: sendfile, an access log, tickets. */
function configurationOf({ folder, root, port, certificates }: Places): string {
  return `
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${folder}/pid;
error_log ${folder}/error.log;
events { worker_connections 10000; }
http {
  access_log ${folder}/access.log;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 65;
  keepalive_requests 1000000;
  default_type application/octet-stream;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
  server {
    listen 127.0.0.1:${port} ssl backlog=4096;
    ${certificates.join('\n    ')}
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets on;
    root ${root};
  }
}
`
}

/** It says nothing when it is ready. */
async function untilListening(port: number, exitCode: () => number | null): Promise<void> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (exitCode() !== null) throw new Error(`nginx ended with ${exitCode()}`)
    if (spawnSync('bash', ['-c', `exec 3<>/dev/tcp/127.0.0.1/${port}`], { stdio: 'ignore' }).status === 0)
      return
    await sleep(50)
  }
  throw new Error('nginx does not listen')
}
