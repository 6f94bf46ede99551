import { useEffect, useState } from "preact/hooks"

/** A value that views follow. */
export const make = <A>(initial: A) => {
  let value = initial
  const followers = new Set<(value: A) => void>()
  return {
    get: () => value,
    set: (next: A) => {
      value = next
      for (const follower of followers) follower(next)
    },
    /** Hook: the value now and after each change. */
    use: (): A => {
      const [seen, setSeen] = useState(() => value)
      useEffect(() => {
        const follow = (next: A) => setSeen(() => next)
        followers.add(follow)
        follow(value)
        return () => void followers.delete(follow)
      }, [])
      return seen
    }
  } as const
}
