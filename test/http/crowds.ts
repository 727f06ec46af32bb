import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { StatusAnswer } from '../../src/http/schemas/status.ts'
import { bootRobot, send } from '../helpers/robot.ts'
import type { Installation, Server } from '../workers/installation.ts'
import type { Hostile, HostileNews } from './hostile-clients.ts'

export const base64 = (text: string): string => Buffer.from(text).toString('base64')
/** A connection that asks nothing has to do so soon; one that asked may be idle for longer. */
export const asksOnce = { says: [base64('GET /_ah/health HTTP/1.1\r\nhost: a\r\n\r\n')] }

export interface Crowd {
  readonly child: ChildProcess
  /** Resolves with what the connections got, when so many were closed. */
  closed(count: number): Promise<string>
  /** All of them hang up. */
  leave(): Promise<void>
}

/** Starts hostile clients, and waits until all have connected. */
export async function crowd(t: Test, hostile: Hostile): Promise<Crowd> {
  const child = fork(join(import.meta.dirname, 'hostile-clients.ts'), {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let [closed, got] = [0, '']
  let wake: (() => void)[] = []
  const opened = new Promise<void>((resolve) => {
    child.on('message', (news: HostileNews) => {
      if ('opened' in news) resolve()
      else {
        closed = news.closed
        got = news.got
      }
      for (const go of wake) go()
      wake = []
    })
  })
  child.send(hostile)
  await opened
  return {
    child,
    async closed(count) {
      while (closed < count) await new Promise<void>((resolve) => wake.push(resolve))
      return got
    },
    async leave() {
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

/** How many files a process of ours may open, and so the server: Node takes the hard limit. */
export function openFiles(): number {
  const [, , hard = ''] =
    /^Max open files\s+(\S+)\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
  return hard === 'unlimited' ? Number.POSITIVE_INFINITY : Number(hard)
}
/** What all processes of a server have in memory. */
export function memoryMiB({ child, workers }: Server): number {
  const residents = [child.pid, ...workers()].map((id) =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, 'utf8'))?.[1]),
  )
  return residents.reduce((sum, kibibytes) => sum + kibibytes, 0) / 1024
}

/** A node boots to ready, with no answer lost. */
export async function boots(
  t: Test,
  place: Installation,
  server: Server,
  host: string,
  words: string,
): Promise<void> {
  const { port, ca } = server
  const secret = place.secrets.get(host) ?? ''
  const done = await bootRobot({ port, ca, host, secret, onLost: async () => {} })
  t.match(done, { stage1s: 1, lost: 0 }, words)
}

export function operatorPort({ folder }: Installation): number {
  return Number(new URL(JSON.parse(readFileSync(join(folder, 'server.json'), 'utf8')).operator).port)
}

/** Asks the operator listener. */
export function status(place: Installation, { ca }: Server): Promise<StatusAnswer> {
  const authorization = `Bearer ${readFileSync(join(place.folder, 'admin.token'), 'utf8').trim()}`
  const options = {
    host: '127.0.0.1',
    port: operatorPort(place),
    ca,
    path: '/api/v1/status',
    headers: { authorization },
  }
  return new Promise((resolve, reject) => {
    request({ ...options, agent: false }, (response) => {
      let text = ''
      response.on('data', (chunk) => (text += chunk)).on('end', () => resolve(JSON.parse(text)))
    })
      .on('error', reject)
      .end()
  })
}

/** Waits until the server says so of itself: each few seconds it does. While thousands hang up at once it may be late to answer. */
export async function until(
  place: Installation,
  server: Server,
  is: (load: StatusAnswer['processes'][number]['load']) => boolean,
): Promise<void> {
  for (;;) {
    const [one] = await status(place, server).then(
      ({ processes }) => processes,
      () => [],
    )
    if (one !== undefined && is(one.load)) return
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

/** A few clients that shake hands and then say what they have to say slowly. */
export function slowCrowd(t: Test, slow: Omit<Hostile, 'tls' | 'reads'>): Promise<Crowd> {
  return crowd(t, { ...slow, tls: true, reads: true })
}

/** The kernel of a node whose stage 1 was just served. */
export async function kernelOf(place: Installation, server: Server, host: string): Promise<string> {
  const path = `/v1/boot/${host}/stage1.ipxe?secret=${place.secrets.get(host)}&serial=HOSTILE&platform=efi`
  const { text } = await send(server, 'GET', path)
  const capability = /artifacts\/kernel\?c=([\w-]{44})/.exec(text)?.[1] ?? /c=([\w-]{44})/.exec(text)?.[1]
  return `/v1/boot/${host}/artifacts/kernel?c=${capability}`
}
