import { PawlError } from '../errors.ts'
import type { Branded } from './brand.ts'

/** A node's host name: RFC 1123 labels, at most 63 characters each and 253 in all, lower case. */
export type NodeName = Branded<string, 'NodeName'>
/** A MAC address, six lower-case hex pairs joined by colons. */
export type MacAddress = Branded<string, 'MacAddress'>
/** An SMBIOS system UUID, lower case with hyphens. */
export type SystemUuid = Branded<string, 'SystemUuid'>
/** A chassis serial number: 1–128 printable ASCII characters, no space at either end. */
export type SerialNumber = Branded<string, 'SerialNumber'>

const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?'
const nodeName = new RegExp(`^${label}(?:\\.${label})*$`)

/** Reads a node name; throws `invalid`. */
export function parseNodeName(text: string): NodeName {
  if (text.length > 253 || !nodeName.test(text)) {
    throw new PawlError('invalid', `node name ${quote(text)} is not a host name (RFC 1123)`, {
      hint: 'use lower-case letters, digits and hyphens, labels of at most 63 characters joined by dots',
    })
  }
  return text as NodeName // the expression above is the whole rule
}

/** Reads `aa:bb:cc:dd:ee:ff`, `aa-bb-…` (iPXE's `:hexhyp`) or `aabbccddeeff`; throws `invalid`. */
export function parseMac(text: string): MacAddress {
  const match =
    /^([0-9a-f]{2})([:-]?)([0-9a-f]{2})\2([0-9a-f]{2})\2([0-9a-f]{2})\2([0-9a-f]{2})\2([0-9a-f]{2})$/i.exec(
      text,
    )
  if (match === null) throw new PawlError('invalid', `MAC address ${quote(text)} is not six hex pairs`)
  const [, first, , ...rest] = match
  return [first, ...rest].join(':').toLowerCase() as MacAddress // six pairs, checked above
}

/** Reads an SMBIOS UUID in its usual 8-4-4-4-12 form; throws `invalid`. All zeros and all ones mean "not set" (DMTF DSP0134 §7.2.1). */
export function parseSystemUuid(text: string): SystemUuid {
  const lower = text.toLowerCase()
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(lower)) {
    throw new PawlError('invalid', `UUID ${quote(text)} is not of the form 8-4-4-4-12 hex digits`)
  }
  if (/^[0-]+$/.test(lower) || /^[f-]+$/.test(lower)) {
    throw new PawlError('invalid', `UUID ${text} means that the firmware has none`)
  }
  return lower as SystemUuid
}

/** Reads a serial number; throws `invalid`. */
export function parseSerial(text: string): SerialNumber {
  if (!/^[!-~](?:[ -~]{0,126}[!-~])?$/.test(text)) {
    throw new PawlError('invalid', `serial number ${quote(text)} is not 1 to 128 printable ASCII characters`)
  }
  return text as SerialNumber
}

const labelKey = /^[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?$/
const labelValue = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/

/** Labels of a node, `key=value`; at most 32. */
export type Labels = Readonly<Record<string, string>>

/** Checks labels; throws `invalid` naming the first bad one. */
export function parseLabels(labels: Readonly<Record<string, string>>): Labels {
  const entries = Object.entries(labels)
  if (entries.length > 32)
    throw new PawlError('invalid', `${entries.length} labels are above the limit of 32`)
  for (const [key, value] of entries) {
    if (!labelKey.test(key) || !labelValue.test(value)) {
      throw new PawlError(
        'invalid',
        `label ${quote(`${key}=${value}`)} is not KEY=VALUE of 1 to 63 letters, digits, ".", "_" or "-"`,
      )
    }
  }
  return Object.fromEntries(entries)
}

/** A value of unknown origin for a message: quoted, printable and at most 64 characters long. */
export function quote(text: string): string {
  const short = text.length > 64 ? `${text.slice(0, 61)}...` : text
  return JSON.stringify(short).replace(
    /[^ -~]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
