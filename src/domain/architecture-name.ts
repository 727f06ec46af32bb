/** The processors that images are for; the words are the kernel's and iPXE's. Apart from what needs a schema: commands start without one. */
export const architectures = ['x86_64', 'arm64'] as const
export type Architecture = (typeof architectures)[number]
