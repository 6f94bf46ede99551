import { defineConfig } from "vitest/config"

/** Servers of their own, for each project. */
const servers = ["test/harness/Servers.ts"]

export default defineConfig({
  test: {
    reporters: ["default", "./test/harness/Total.ts"],
    setupFiles: ["./test/harness/EachFile.ts"],
    // the tests wait for servers and processes more than they compute
    maxWorkers: 4,
    // tinypool ends surplus workers when its queue is empty, and then fails a run that has passed
    minWorkers: 4,
    // a worker loads the packages once, for all of its files
    poolOptions: { forks: { isolate: false } },
    // worlds of one file that live at the same time: each is several processes
    maxConcurrency: 3,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // a test that hangs on a server is more use than one that is retried
    retry: 0,
    projects: [
      {
        extends: true,
        test: { name: "suite", globalSetup: servers, include: ["test/**/*.test.ts"], exclude: ["test/proof/**"] }
      },
      // what breaks the system at its worst moments: minutes, not seconds
      {
        extends: true,
        test: {
          name: "proof",
          globalSetup: servers,
          include: ["test/proof/**/*.test.ts"],
          exclude: ["test/proof/long/**", "test/proof/failover/**"]
        }
      },
      // servers that die for good, fill up or roll: minutes each, one after the other
      {
        extends: true,
        test: {
          name: "failover",
          globalSetup: servers,
          include: ["test/proof/failover/**/*.test.ts", "test/proof/{Promotion,RollingUpdate}.test.ts"]
        }
      },
      // the same with many processes or servers: more minutes than .ci/run has
      { extends: true, test: { name: "long", globalSetup: servers, include: ["test/proof/long/**/*.test.ts"] } }
    ]
  }
})
