import type * as Grpc from "@grpc/grpc-js"

export type AddService = Pick<Grpc.Server, "addService">
export type Stream = Grpc.ServerWritableStream<any, any> | Grpc.ServerDuplexStream<any, any>

/** Wraps a server and tracks its open streams, because one open stream would delay a graceful stop for ever. */
export const remembering = (server: AddService) => {
  const open = new Set<Stream>()
  const remember = (handler: Grpc.UntypedHandleCall) => (call: Stream, ...rest: ReadonlyArray<unknown>) => {
    open.add(call)
    call.once("cancelled", () => open.delete(call))
    const handle = handler as (call: Stream, ...rest: ReadonlyArray<unknown>) => void
    handle(call, ...rest)
  }
  return {
    addService(definition: Grpc.ServiceDefinition, handlers: Grpc.UntypedServiceImplementation) {
      const methods = Object.entries(definition).flatMap(([name, { originalName, responseStream }]) => {
        const handler = handlers[name] ?? handlers[originalName ?? name]
        return handler === undefined ? [] : [[name, responseStream ? remember(handler) : handler] as const]
      })
      server.addService(definition, Object.fromEntries(methods) as Grpc.UntypedServiceImplementation)
    },
    /** Ends all open streams. */
    endStreams: () => open.forEach((stream) => stream.end())
  }
}
