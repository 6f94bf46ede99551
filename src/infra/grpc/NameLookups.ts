/**
 * A look-up of a host name gives up after two seconds for each name server, instead of ten, where none answers. libuv looks
 * names up in threads that nothing can cancel, and a process waits for them before it ends. RES_OPTIONS is how the C library
 * (glibc) is told, before its first look-up; what the environment says in it comes first. Call it first of all.
 */
export const bounded = () => {
  process.env["RES_OPTIONS"] ??= "timeout:1 attempts:2"
}
