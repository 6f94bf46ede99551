import { writeFileSync } from "node:fs"

// the process joins a memory group before it needs memory: the kernel counts what is taken from now on
writeFileSync(`${process.env.MEMORY_GROUP}/cgroup.procs`, String(process.pid))
