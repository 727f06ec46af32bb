import { readFileSync } from 'node:fs'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import Fastify from 'fastify'
import t from 'tap'
import { bareListener, openApi, publishedPath, publishedText } from '../../.ci/openapi.ts'
import { addOpenApi, type Operation, openApiOf, pathOf } from '../../src/http/openapi.ts'
import { checkConforms } from '../helpers/conforms.ts'

const document = await openApi()
const operations: [string, string, Operation][] = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]): [string, string, Operation] => [
    path,
    method,
    operation,
  ]),
)

t.test(
  'a route that does not say its name, what it does and where it belongs is not registered',
  async (t) => {
    const whole = { operationId: 'showX', summary: 'Shows x.', tags: ['nodes'] }
    for (const missing of ['operationId', 'summary', 'tags']) {
      const app = Fastify()
      addOpenApi(app)
      const schema = { ...whole, [missing]: undefined }
      t.throws(
        () => app.get('/x', { schema }, () => ''),
        /route GET \/x does not say its operationId/,
        missing,
      )
    }
  },
)

t.test('two schemas of one name are refused', async (t) => {
  const app = Fastify()
  addOpenApi(app)
  app.register((child, _options, done) => {
    for (const type of ['string', 'integer']) {
      const about = { operationId: `get-${type}`, summary: 's', tags: ['nodes'] }
      const schema = { ...about, response: { 200: { title: 'One', type } } }
      child.get(`/${type}`, { schema, config: { role: 'anyone' } }, () => '')
    }
    done()
  })
  await app.ready()
  t.throws(() => openApiOf(app), /two schemas are named One/)
})

t.test(
  'every route is in the document, and nothing else; the pages of sign-in are for browsers',
  async (t) => {
    const app = await bareListener()
    t.teardown(() => app.close())
    const lines = app.printRoutes({ commonPrefix: false }).split('\n')
    const registered: string[] = []
    const above: string[] = []
    for (const line of lines) {
      const found = /^((?:│ {3}| {4})*)(?:├── |└── )(\S*)(?: \((.*)\))?$/.exec(line)
      if (found === null) continue
      const depth = (found[1] ?? '').length / 4
      above.length = depth
      above.push(found[2] ?? '')
      for (const method of (found[3] ?? '').split(', ').filter(Boolean))
        registered.push(`${method} ${pathOf(above.join(''))}`)
    }
    const described = operations.map(([path, method]) => `${method.toUpperCase()} ${path}`)
    t.ok(registered.length > 50, `${registered.length} routes`)
    const page = / \/(auth\/.*|\*)?$/
    t.strictSame(described.sort(), registered.filter((route) => !page.test(route)).sort())
  },
)

t.test('the document passes the recommended rules of Redocly', async (t) => {
  const config = await createConfig({ extends: ['recommended'] })
  const problems = await lintFromString({ source: JSON.stringify(document), config })
  t.strictSame(
    problems.map(({ ruleId, message, location }) => `${ruleId}: ${message} ${location[0]?.pointer}`),
    [],
  )
  const broken = { ...document, info: { title: 'x' } }
  t.ok(
    (await lintFromString({ source: JSON.stringify(broken), config })).length > 0,
    'and a broken one does not',
  )
})

t.test('every operation says who may, is named once, and names its errors', async (t) => {
  const names = operations.map(([, , { operationId }]) => operationId)
  t.equal(new Set(names).size, names.length)
  for (const [path, method, operation] of operations) {
    const what = `${method} ${path}`
    t.match(operation.operationId, /^[a-z][A-Za-z0-9]+$/, what)
    t.match(operation.summary, /^[A-Z].*\.$/, what)
    const role = operation['x-pawl-role']
    t.match([role].flat().join(), /^(anyone|viewer|operator|publisher|admin)(,(operator|publisher))?$/, what)
    t.match(
      operation.description,
      role === 'anyone' ? /Needs no sign-in/ : /(Every role may|Needs the role)/,
      what,
    )
    t.ok(operation.responses[400], `${what} says 400`)
    t.equal(operation.responses[401] !== undefined, role !== 'anyone', `${what} says 401 where one signs in`)
  }
})

t.test('what may be sent twice and what may be changed says so', async (t) => {
  const taking = (parameter: string): (string | undefined)[] =>
    operations
      .filter(([, , { parameters = [] }]) =>
        parameters.some(({ $ref }) => $ref === `#/components/parameters/${parameter}`),
      )
      .map(([, , { operationId }]) => operationId)
  for (const name of ['addNode', 'createOperatorToken', 'startRollout', 'registerPublisher', 'publishImage'])
    t.ok(taking('IdempotencyKey').includes(name), name)
  for (const name of [
    'changeNode',
    'removeNode',
    'applyProfile',
    'moveChannel',
    'setChannelRules',
    'revokeOperatorToken',
  ])
    t.ok(taking('IfMatch').includes(name), name)
  for (const name of ['getNode', 'getProfile', 'getChannel', 'getOperatorToken'])
    t.ok(taking('IfNoneMatch').includes(name), name)
  for (const [path, method, operation] of operations) {
    if (method === 'get') continue
    const conditional = taking('IfMatch').includes(operation.operationId)
    t.equal(operation.responses[412] !== undefined, conditional, `${method} ${path}: 412`)
  }
})

t.test('the check of answers in our tests finds one that is otherwise', async (t) => {
  const app = await bareListener()
  t.teardown(() => app.close())
  const answer = (statusCode: number, body: string, type = 'application/json') =>
    ({ statusCode, body, headers: { 'content-type': type }, json: () => JSON.parse(body) }) as never
  const check = (given: never) => () => checkConforms(app, 'GET', '/api/v1/whoami', given)
  t.throws(check(answer(418, '{}')), /answered 418, which its document does not say/)
  t.throws(check(answer(200, '{}')), /otherwise than its document says/)
  t.throws(check(answer(200, 'hi', 'text/plain')), /as text\/plain/)
})

t.test('docs/openapi.json is the document of this version', async (t) => {
  t.ok(readFileSync(publishedPath, 'utf8') === (await publishedText()), 'npm run docs mends it')
})
