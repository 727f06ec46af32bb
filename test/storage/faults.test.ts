import t from 'tap'
import { explained } from '../../src/storage/faults.ts'

const coded = (code: string): Error => Object.assign(new Error('said'), { code })

t.test('faults of the database as a whole are told as such, with why', async (t) => {
  const faults = [
    [coded('08006'), '08006'],
    [coded('53300'), '53300'],
    [coded('57P01'), '57P01'],
    [coded('ECONNREFUSED'), 'ECONNREFUSED'],
    [coded('EAI_AGAIN'), 'EAI_AGAIN'],
    [coded('ERR_TLS_CERT_ALTNAME_INVALID'), 'ERR_TLS_CERT_ALTNAME_INVALID'],
    [coded('ERR_SSL_WRONG_VERSION_NUMBER'), 'ERR_SSL_WRONG_VERSION_NUMBER'],
    [new Error('Connection terminated unexpectedly'), 'its connection broke'],
    [new Error('Client has encountered a connection error and is not queryable'), 'its connection broke'],
    [new Error('Query read timeout'), 'its connection broke'],
    [new Error('timeout exceeded when trying to connect'), 'no connection was free in time'],
  ] as const
  for (const [fault, why] of faults)
    t.match(explained(fault, 'x'), {
      code: 'storage-unavailable',
      message: `database x does not answer (${why})`,
      cause: fault,
    })
})

t.test('other faults stay what they are, also a fault of ours in the work of a transaction', async (t) => {
  const faults = [
    ...['23505', '40001', '40P01', '42P01', 'ERR_INVALID_ARG_TYPE', 'ERR_OUT_OF_RANGE'].map(coded),
    new TypeError('undefined is not a function'),
    'said',
    undefined,
  ]
  for (const fault of faults) t.equal(explained(fault, 'x'), fault)
})
