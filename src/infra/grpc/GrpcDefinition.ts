import type * as Grpc from "@grpc/grpc-js"
import * as ProtoLoader from "@grpc/proto-loader"
import { readFileSync } from "node:fs"
import Descriptor from "protobufjs/ext/descriptor/index.js"

/**
 * Loads the definitions of a proto file.
 *
 * Messages hold an int64 as decimal text, because a JavaScript number would round it; an enum value by its name; and the
 * default of an absent field, because proto3 clients omit `false`.
 */
export const load = (file: string): ProtoLoader.PackageDefinition =>
  ProtoLoader.loadSync(file, { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true })

/** Finds a service by its full name. Throws when the name is not a service: a bug of the build. */
export const service = (definitions: ProtoLoader.PackageDefinition, name: string): Grpc.ServiceDefinition => {
  const found = definitions[name]
  if (found === undefined || "format" in found) throw new Error(`the proto file has no service ${name}`)
  return found as Grpc.ServiceDefinition
}

/**
 * Reads the files of a descriptor set for reflection. `buf build` writes full type names and imports; the loader above
 * does not keep them.
 */
export const reflected = (descriptorSet: string) => {
  const decoded: unknown = Descriptor.FileDescriptorSet.decode(readFileSync(descriptorSet))
  const { file } = decoded as Descriptor.IFileDescriptorSet
  return {
    fileDescriptorProtos: file.map((one) => Buffer.from(Descriptor.FileDescriptorProto.encode(one).finish()))
  }
}

/**
 * Largest message in both directions, in bytes: about a thousand times a normal call. `node:http2` limits metadata to 128
 * entries and 64 KiB.
 */
export const maxMessageBytes = 64 * 1024
