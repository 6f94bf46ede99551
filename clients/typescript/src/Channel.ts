import * as Grpc from "@grpc/grpc-js"
import * as ProtoLoader from "@grpc/proto-loader"
import { isIP } from "node:net"
import type { SecureContextOptions } from "node:tls"
import { checkServerIdentity, createSecureContext } from "node:tls"
import { descriptorSet, serviceConfig } from "./Wire.js"

/** Trust and identity of a client that uses TLS. Certificates and keys are PEM. */
export interface ClientTls {
  /** Certificates of the authorities to trust. Default: the roots of Node. */
  readonly ca?: SecureContextOptions["ca"]
  /** Own certificate with its chain, and its key: both or neither. */
  readonly cert?: SecureContextOptions["cert"]
  readonly key?: SecureContextOptions["key"]
  /** Name in the server's certificate. Default: the host of the address. */
  readonly serverName?: string | undefined
}

const service = "paymentsapi.PaymentsApi"

/** Largest answer, in bytes: that of the server. */
const maxMessageBytes = 64 * 1024

/** An int64 is decimal text, an enum value its name, and an absent field its default. */
const definition = () =>
  ProtoLoader.loadFileDescriptorSetFromBuffer(Buffer.from(descriptorSet, "base64"), {
    longs: String,
    enums: String,
    defaults: true
  })[service] as Grpc.ServiceDefinition

/** The host of `host:port`, of which an IPv6 address stands in brackets. */
const hostOf = (address: string) => address.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1")

/** True for an address that only programs of this machine reach. */
export const isLoopback = (address: string) =>
  /^(localhost|.*\.localhost|127(\.\d{1,3}){3}|::1|::ffff:127(\.\d{1,3}){3})$/i.test(hostOf(address))

/**
 * Channel options and credentials with TLS. The name is also sent to the server. An address cannot be sent, and Node warns of
 * one: for a loopback address the name `localhost` is sent, and the certificate is compared with the address.
 */
const secured = ({ serverName, ...context }: ClientTls, address: string) => {
  const host = hostOf(address)
  const asLocalhost = serverName === undefined && isIP(host) !== 0 && isLoopback(address)
  const name = asLocalhost ? "localhost" : serverName
  return {
    credentials: Grpc.credentials.createFromSecureContext(
      createSecureContext(context),
      asLocalhost ? { checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate) } : {}
    ),
    options: name === undefined ? {} : { "grpc.ssl_target_name_override": name }
  }
}

/** A channel to one address. */
export interface ChannelOptions {
  readonly address: string
  readonly tls: ClientTls | undefined
  readonly retries: boolean
  readonly proxy: boolean
}

type Connection = InstanceType<ReturnType<typeof Grpc.makeGenericClientConstructor>>

/** A client of grpc-js. It connects at its first call. */
export const open = ({ address, proxy, retries, tls }: ChannelOptions): Connection => {
  const Client = Grpc.makeGenericClientConstructor(definition(), service)
  const { credentials, options } = tls === undefined
    ? { credentials: Grpc.credentials.createInsecure(), options: {} }
    : secured(tls, address)
  return new Client(address, credentials, {
    ...options,
    "grpc.service_config": serviceConfig,
    "grpc.enable_retries": retries ? 1 : 0,
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.enable_channelz": 0,
    // a TXT look-up that finds nothing; a name server that does not answer would delay the exit by seconds
    "grpc.service_config_disable_resolution": 1,
    // many proxies refuse gRPC, and none can reach the loopback interface of this machine
    "grpc.enable_http_proxy": proxy && !isLoopback(address) ? 1 : 0
  })
}
