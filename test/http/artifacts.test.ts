import { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { digestOf } from '../../src/domain/digest.ts'
import { createOperator } from '../../src/fleet/operators.ts'
import { listen } from '../helpers/operator-listener.ts'
import { forEachDatabase, type OpenWorld } from '../helpers/world.ts'

const content = Buffer.from('a small kernel')
const digest = digestOf(content)
const url = `/api/v1/artifacts/sha256/${digest}`

/** A listener, and requests of one publisher to it; a body is sent with its length unless it is a stream. */
async function open(t: Test, openWorld: OpenWorld) {
  const { app, tokens, world } = await listen(t, openWorld)
  const ask = async (
    method: 'HEAD' | 'PUT',
    headers: Record<string, string> = {},
    payload?: Buffer | Readable,
    token = tokens.publisher,
  ) => {
    const sent = { ...headers, authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' }
    const answer = await app.inject({
      method,
      url,
      headers: sent,
      ...(payload === undefined ? {} : { payload }),
    })
    const { 'upload-offset': offset, 'upload-complete': complete, 'content-length': length } = answer.headers
    return { status: answer.statusCode, offset, complete, length, answer }
  }
  return { ask, world }
}

await forEachDatabase(t, async (t, openWorld) => {
  await t.test('refuses fields that make no sense, naming the field, and keeps nothing', async (t) => {
    const { ask } = await open(t, openWorld)
    const cases = [
      [{ 'upload-offset': '-1' }, /^upload-offset is not a whole number/],
      [{ 'upload-offset': '1.0' }, /^upload-offset is not/],
      [{ 'upload-offset': '1000000000000000' }, /^upload-offset is not/],
      [{ 'upload-length': 'all' }, /^upload-length is not/],
      [{ 'upload-complete': 'true' }, /^Upload-Complete is \?1 where/],
      [{ 'upload-complete': '?0' }, /Upload-Length$/],
      [{ 'upload-length': '13' }, /the 14 bytes of this request end behind Upload-Length 13/],
      [{ 'upload-length': '15', 'upload-complete': '?1' }, /ends at byte 14 of 15, and says that is all/],
    ] as const
    for (const [headers, detail] of cases) {
      const { status, answer } = await ask('PUT', headers, content)
      t.match([status, answer.json()], [400, { code: 'invalid', detail }], JSON.stringify(headers))
    }
    for (const headers of [{}, { 'upload-complete': '?1' }, { 'upload-offset': '0' }]) {
      const { status, answer } = await ask('PUT', headers, Readable.from([content]))
      t.match([status, answer.json()], [400, { code: 'invalid', detail: /how large it is: Content-Length/ }])
    }
    t.match(await ask('HEAD'), { status: 404, offset: '0', complete: '?0' })
  })

  await t.test('another offset than has arrived is answered 409 with the right one', async (t) => {
    const { ask } = await open(t, openWorld)
    await ask('PUT', { 'upload-length': '14' }, content.subarray(0, 5))
    for (const wrong of ['3', '9']) {
      const { status, offset, answer } = await ask(
        'PUT',
        { 'upload-offset': wrong, 'upload-length': '14' },
        content.subarray(Number(wrong)),
      )
      t.match([status, offset, answer.json().code], [409, '5', 'conflict'])
    }
    t.match(await ask('HEAD'), { offset: '5' })
  })

  await t.test('a wrong digest or length removes what had arrived', async (t) => {
    const { ask } = await open(t, openWorld)
    const begin = { 'upload-length': '14' }
    const end = { 'upload-length': '14', 'upload-offset': '5' }
    await ask('PUT', begin, content.subarray(0, 5))
    t.match(await ask('PUT', end, Buffer.from('XXXXXXXXX')), { status: 422, offset: '0', complete: '?0' })
    await ask('PUT', begin, content.subarray(0, 5))
    const tooLong = Readable.from([content.subarray(5), content]) // without Content-Length, so only reading it tells
    t.match(await ask('PUT', end, tooLong), { status: 422, offset: '0' })
    t.match(await ask('HEAD'), { status: 404, offset: '0' })
  })

  await t.test('an upload that broke off goes on, and is visible only when it is whole', async (t) => {
    const { ask } = await open(t, openWorld)
    async function* breaking() {
      yield content.subarray(0, 5)
      throw new Error('the cable was pulled')
    }
    await ask('PUT', { 'upload-length': '14' }, Readable.from(breaking())).catch(() => undefined)
    t.match(await ask('HEAD'), { status: 404, offset: '5', complete: '?0' })
    const rest = { 'upload-offset': '5', 'upload-length': '14', 'upload-complete': '?1' }
    const { status, offset, complete, answer } = await ask('PUT', rest, content.subarray(5))
    t.match([status, offset, complete, answer.json()], [201, '14', '?1', { digest, size: 14 }])
    t.match(await ask('HEAD'), { status: 200, offset: '14', complete: '?1', length: '14' })
  })

  await t.test('an upload may come in parts', async (t) => {
    const { ask } = await open(t, openWorld)
    const part = async (from: number, to: number) => {
      const headers = {
        'upload-offset': String(from),
        'upload-length': '14',
        'upload-complete': to < 14 ? '?0' : '?1',
      }
      const { status, offset, answer } = await ask('PUT', headers, content.subarray(from, to))
      return [status, offset, answer.json()]
    }
    t.match(await part(0, 4), [202, '4', { digest, received: 4 }])
    t.match(await part(4, 10), [202, '10', { digest, received: 10 }])
    t.match(await part(10, 14), [201, '14', { digest, size: 14 }])
  })

  await t.test('an upload is of the operator that began it', async (t) => {
    const { ask, world } = await open(t, openWorld)
    const other = await createOperator(world.context, { name: 'other', role: 'publisher', expiresAt: null })
    await ask('PUT', { 'upload-length': '14' }, content.subarray(0, 5))
    t.match(await ask('HEAD', {}, undefined, other), { status: 404, offset: '0' })
    const rest = { 'upload-offset': '5', 'upload-length': '14' }
    t.match(await ask('PUT', rest, content.subarray(5), other), { status: 409, offset: '0' })
    t.match(await ask('PUT', {}, content, other), { status: 201 })
    t.match(await ask('PUT', rest, content.subarray(5)), { status: 200 }, 'and both may send it')
  })
})
