/**
 * Limits the look-up of a host name to two seconds for each name server that does not answer, instead of ten. libuv looks
 * names up in threads that cannot be cancelled, and a process waits for them before it ends. glibc reads RES_OPTIONS before its
 * first look-up, so call this before everything else. A value from the environment takes precedence.
 */
export const bounded = () => {
  process.env["RES_OPTIONS"] ??= "timeout:1 attempts:2"
}
