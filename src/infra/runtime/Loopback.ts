/** Hosts that only programs of this machine reach. */
const loopback = /^(localhost|.*\.localhost|127(\.\d{1,3}){3}|::1|::ffff:127(\.\d{1,3}){3})$/i

/** True for a host that only programs of this machine reach. */
export const isLoopback = (host: string) => loopback.test(host)
