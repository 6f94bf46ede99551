import type * as Grpc from "@grpc/grpc-js"
import * as ProtoLoader from "@grpc/proto-loader"
import { readFileSync } from "node:fs"
import Descriptor from "protobufjs/ext/descriptor/index.js"

/**
 * The definitions of a proto file.
 *
 * In a message an int64 is a decimal text, an enum value its name, and an absent field its default: JavaScript
 * numbers would round an int64, and proto3 clients leave out what is `false`.
 */
export const load = (file: string): ProtoLoader.PackageDefinition =>
  ProtoLoader.loadSync(file, { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true })

/** A service by its full name. What has no methods is no service. */
export const service = (definitions: ProtoLoader.PackageDefinition, name: string): Grpc.ServiceDefinition => {
  const found = definitions[name]
  if (found === undefined || "format" in found) throw new Error(`${name} is no service of the definitions`)
  return found as Grpc.ServiceDefinition
}

/**
 * The files of a descriptor set, for reflection: what `buf build` writes names types and imports in full, and what
 * the loader above makes of a proto file does not.
 */
export const reflected = (descriptorSet: string) => {
  const decoded: unknown = Descriptor.FileDescriptorSet.decode(readFileSync(descriptorSet))
  const { file } = decoded as Descriptor.IFileDescriptorSet
  return {
    fileDescriptorProtos: file.map((one) => Buffer.from(Descriptor.FileDescriptorProto.encode(one).finish()))
  }
}

/**
 * Largest message, both ways: a thousand times what a call needs, and little enough that many at once are no danger.
 * Metadata is bounded by `node:http2`: 128 entries and 64 KiB.
 */
export const maxMessageBytes = 64 * 1024
