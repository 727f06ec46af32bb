declare const brand: unique symbol

/** A `Base` that was parsed once at the edge; inside, it is not checked again. */
export type Branded<Base, Name extends string> = Base & { readonly [brand]: Name }
