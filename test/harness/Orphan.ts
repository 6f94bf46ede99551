/** Ends a worker when the test runner has died. Otherwise the worker fills its memory with reports that it cannot send. */
process.once("disconnect", () => process.kill(process.pid, "SIGKILL"))
