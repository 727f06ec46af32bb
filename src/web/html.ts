/**
 * The dashboard: a client of the API, without a build step. The server strips the types of these files and sends them as
 * modules (src/http/web-assets.ts). `html` makes elements; every value in it is a text, never markup.
 */
import htm from 'htm'
import { type ComponentChildren, h, type VNode } from 'preact'

type Template = (parts: TemplateStringsArray, ...values: unknown[]) => VNode
/** Its own types name a module that no browser loads. */
interface Htm {
  bind(make: typeof h): Template
}

/** Markup as a template: `` html`<p>${text}</p>` ``. */
export const html = (htm as unknown as Htm).bind(h)

/** What can stand inside an element. */
export type Children = ComponentChildren

export { type FunctionComponent, render, type VNode } from 'preact'
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks'
