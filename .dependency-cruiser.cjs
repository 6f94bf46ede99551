/** Imports only go down: main → cli → inventory | grpc | ops | doctor → payments → outbox → drills | domain; everything may use infra. */
const from = (path) => ({ path })
const foreign = (library, ...homes) => ({
  name: `${library}-stays-in-infra`,
  severity: "error",
  from: { path: "^src", pathNot: homes.map((home) => `^src/infra/${home}/`) },
  to: { path: `^node_modules/${library}/` }
})

module.exports = {
  forbidden: [
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    {
      name: "domain-imports-only-effect",
      severity: "error",
      from: from("^src/domain"),
      to: { pathNot: ["^src/domain", "^node_modules/effect/"] }
    },
    {
      name: "drills-import-only-effect",
      severity: "error",
      from: from("^src/drills"),
      to: { pathNot: ["^src/drills", "^node_modules/effect/"] }
    },
    {
      name: "infra-knows-nothing-of-payments",
      severity: "error",
      from: from("^src/infra"),
      to: { path: "^src", pathNot: "^src/infra" }
    },
    { name: "infra-has-rooms", severity: "error", from: {}, to: { path: "^src/infra/[^/]+$" } },
    {
      name: "patches-stay-behind-the-client",
      severity: "error",
      from: { path: "^src", pathNot: "^src/infra/kafka/" },
      to: { path: "^src/infra/kafka/(patches|decode)/" }
    },
    {
      name: "grpc-patches-stay-behind-the-client",
      severity: "error",
      from: { path: "^src", pathNot: "^src/infra/grpc/" },
      to: { path: "^src/infra/grpc/patches/" }
    },
    {
      name: "patches-know-only-what-they-patch",
      severity: "error",
      from: from("^src/infra/kafka/patches/"),
      to: { path: "^src", pathNot: "^src/infra/kafka/(patches|decode)/|^src/infra/kafka/(RecordTime|KafkaRecord)\\.ts$" }
    },
    {
      name: "tuning-knows-nothing-of-us",
      severity: "error",
      from: from("^src/infra/runtime/tuning/"),
      to: { path: "^src", pathNot: "^src/infra/runtime/tuning/" }
    },
    {
      name: "deliveries-do-not-know-each-other",
      severity: "error",
      from: from("^src/outbox/(leased|sharded)/"),
      to: { path: "^src/outbox/(leased|sharded)/", pathNot: "^src/outbox/$1/" }
    },
    {
      name: "outbox-is-below-payments",
      severity: "error",
      from: from("^src/outbox"),
      to: { path: "^src/(payments|inventory|grpc|ops|doctor|cli|local|main)" }
    },
    {
      name: "payments-is-below-its-callers",
      severity: "error",
      from: from("^src/payments"),
      to: { path: "^src/(inventory|grpc|ops|doctor|cli|local|main)" }
    },
    {
      name: "callers-do-not-know-each-other",
      severity: "error",
      from: from("^src/(inventory|grpc|ops|doctor)/"),
      to: { path: "^src/(inventory|grpc|ops|doctor|cli|local|main)", pathNot: "^src/$1/" }
    },
    {
      name: "only-the-command-line-starts-the-local-stack",
      severity: "error",
      from: { path: "^src", pathNot: "^src/(local|cli|main)" },
      to: { path: "^src/local" }
    },
    {
      name: "repair-is-above-the-outbox",
      severity: "error",
      from: from("^src/repair"),
      to: { path: "^src", pathNot: "^src/(repair|inventory/DeadLetter\\.ts|outbox|domain|infra)" }
    },
    {
      name: "story-is-above-repair",
      severity: "error",
      from: from("^src/story"),
      to: { path: "^src", pathNot: "^src/(story|audit/Sources\\.ts|repair|outbox|domain|infra)" }
    },
    {
      name: "only-the-command-line-repairs",
      severity: "error",
      from: { path: "^src", pathNot: "^src/(cli|main|admin|story|repair|console/web)" },
      to: { path: "^src/(admin|story|repair)" }
    },
    {
      name: "admin-is-above-story",
      severity: "error",
      from: from("^src/admin"),
      to: {
        path: "^src",
        pathNot: "^src/(admin|audit|story|repair|infra|payments|outbox|domain|doctor)|^src/inventory/Lag\\.ts$"
      }
    },
    {
      name: "the-definition-of-the-api-runs-in-a-browser",
      severity: "error",
      from: from("^src/admin/(Api\\.ts|api/)"),
      to: { pathNot: ["^src/admin/api/", "^src/domain/", "^node_modules/(effect|@effect/platform)/"] }
    },
    {
      name: "pages-know-files-only",
      severity: "error",
      from: { path: "^src/console", pathNot: "^src/console/web/" },
      to: { path: "^src", pathNot: "^src/console" }
    },
    {
      name: "pages-know-the-types-of-the-api-only",
      severity: "error",
      from: from("^src/console/web/"),
      to: { pathNot: ["^src/console/web/", "^node_modules/(preact|uplot)/", "^docs/runbook\\.md$"], dependencyTypesNot: ["type-only"] }
    },
    {
      name: "types-of-pages-come-from-the-api-and-the-story",
      severity: "error",
      from: from("^src/console/web/"),
      to: { path: "^src", pathNot: "^src/(console/web/|admin/api/|story/Facts\\.ts$)" }
    },
    {
      name: "only-pages-use-what-runs-in-a-browser",
      severity: "error",
      from: { path: "^(src|clients)", pathNot: "^src/console/web/" },
      to: { path: ["^src/console/web/", "^node_modules/(preact|uplot)/"] }
    },
    {
      name: "audit-knows-facts-only",
      severity: "error",
      from: from("^src/audit"),
      to: { path: "^src", pathNot: "^src/(audit|infra|domain)" }
    },
    {
      name: "only-the-configuration-knows-its-parts",
      severity: "error",
      from: { path: "^src", pathNot: "^src/(Config\\.ts|config/)" },
      to: { path: "^src/config/" }
    },
    {
      name: "settings-know-no-services",
      severity: "error",
      from: from("^src/config/"),
      to: { path: "^src", pathNot: "^src/(config|domain|infra)/" }
    },
    { name: "local-stands-alone", severity: "error", from: from("^src/local"), to: { path: "^src", pathNot: "^src/local" } },
    {
      name: "one-bridge-to-the-client-package",
      severity: "error",
      from: { path: "^src", pathNot: "^src/grpc/PaymentsClient\\.ts$" },
      to: { path: "^clients/" }
    },
    {
      name: "the-client-package-stands-alone",
      severity: "error",
      from: from("^clients/"),
      to: { pathNot: ["^clients/typescript/src/", "^node_modules/(@grpc/(grpc-js|proto-loader)|protobufjs)/"], dependencyTypesNot: ["core"] }
    },
    { name: "src-never-imports-tests", severity: "error", from: from("^src"), to: { path: "^(test|bench)" } },
    foreign("kafkajs", "kafka"),
    foreign("ioredis", "redis"),
    foreign("pg", "postgres"),
    foreign("@grpc/(grpc-js|proto-loader|reflection)", "grpc"),
    foreign("grpc-health-check", "grpc"),
    foreign("jose", "grpc")
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "node", "types"] }
  }
}
