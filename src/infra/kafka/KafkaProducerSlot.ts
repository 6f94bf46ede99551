import { Effect, Exit, Option, Ref, Scope } from "effect"
import type { KafkaOptions } from "./KafkaClient.js"
import * as KafkaProducer from "./KafkaProducer.js"

/** Opens a producer at the first use, and another one after `close`. Closes it when the scope ends. */
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
