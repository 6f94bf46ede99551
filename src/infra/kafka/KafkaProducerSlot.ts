import { Effect, Exit, Option, Ref, Scope } from "effect"
import type { KafkaOptions } from "./KafkaClient.js"
import * as KafkaProducer from "./KafkaProducer.js"

/** A producer that is made when it is needed, and again after it was closed. It is closed with the scope. */
export const make = (options: KafkaOptions) =>
  Effect.gen(function*() {
    const slot = yield* Ref.make(Option.none<readonly [KafkaProducer.KafkaProducer, Scope.CloseableScope]>())

    const close = Effect.flatMap(
      Ref.getAndSet(slot, Option.none()),
      Option.match({ onNone: () => Effect.void, onSome: ([, scope]) => Scope.close(scope, Exit.void) })
    )
    yield* Effect.addFinalizer(() => close)

    const get = Effect.gen(function*() {
      const open = yield* Ref.get(slot)
      if (Option.isSome(open)) return open.value[0]
      const scope = yield* Scope.make()
      const producer = yield* KafkaProducer.make(options).pipe(
        Scope.extend(scope),
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      )
      yield* Ref.set(slot, Option.some([producer, scope] as const))
      return producer
    })

    return { get, close }
  })
