import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/utils/Servers.ts"],
    reporters: ["default", "./test/utils/Total.ts"],
    // the tests wait for servers and processes more than they compute
    maxWorkers: 2,
    minWorkers: 1,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // a test that hangs on a server is more use than one that is retried
    retry: 0
  }
})
