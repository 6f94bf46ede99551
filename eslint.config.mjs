import * as effect from "@effect/eslint-plugin"
import ts from "@typescript-eslint/eslint-plugin"
import tsParser from "@typescript-eslint/parser"

const format = {
  indentWidth: 2,
  lineWidth: 120,
  semiColons: "asi",
  quoteStyle: "alwaysDouble",
  trailingCommas: "never",
  operatorPosition: "maintain",
  "arrowFunction.useParentheses": "force"
}

const effectOnly = [
  { object: "process", property: "env", message: "Only Config.ts knows the environment." },
  { object: "Date", property: "now", message: "Use Clock, so that TestClock can move it." },
  { object: "Math", property: "random", message: "Use Random." }
]

// tsconfig.json knows the names of browsers for src/console/web
const browserOnly = [
  ..."window document navigator location history localStorage sessionStorage self parent top frames opener origin screen".split(" "),
  ..."name event status length external closed open close stop print find focus blur scroll alert confirm prompt".split(" "),
  ..."EventSource HTMLElement Element Node".split(" ")
]

export default [
  { ignores: ["node_modules", "**/dist", ".local"] },
  {
    files: ["{src,test,bench,clients}/**/*.{ts,tsx}", "*.ts"],
    languageOptions: { parser: tsParser, parserOptions: { project: "./tsconfig.json" } },
    plugins: { "@effect": { rules: effect.rules }, "@typescript-eslint": ts },
    rules: {
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "@effect/dprint": ["error", { config: format }]
    }
  },
  {
    files: ["src/**/*.{ts,tsx}"],
    rules: {
      // a guideline is 200: an idea is not cut in two to stay below
      "max-lines": ["error", 300]
    }
  },
  {
    files: ["src/**/*.ts"],
    // NameLookups sets a variable for the C library, and reads none for us. The pages of the console run in a browser
    ignores: ["src/infra/grpc/NameLookups.ts", "src/console/web/**"],
    rules: {
      "no-restricted-globals": ["error", ...browserOnly],
      "no-console": "error",
      "no-restricted-properties": ["error", ...effectOnly]
    }
  }
]
