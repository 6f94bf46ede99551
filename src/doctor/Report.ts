import type { Diagnosis } from "./Doctor.js"
import type { Place, Result } from "./Finding.js"

const titles = {
  settings: "Settings",
  certificates: "Certificates",
  postgresql: "PostgreSQL",
  kafka: "Kafka",
  redis: "Redis",
  clocks: "Clocks"
} as const satisfies Record<Place, string>

const marks = { ok: "ok", finding: "FINDING", not_checked: "not checked" } as const

const width = 11

const lines = ({ check, fault, found, state }: Result) => [
  `  ${marks[state].padEnd(width)}  ${found}  [${check}]`,
  ...(fault === undefined ? [] : [
    `  ${"".padEnd(width)}  consequence: ${fault.consequence}`,
    `  ${"".padEnd(width)}  remedy: ${fault.remedy}`
  ])
]

const count = (results: ReadonlyArray<Result>, state: Result["state"]) =>
  results.filter((result) => result.state === state).length

/** The findings in a few words; undefined when there are none. */
export const verdict = ({ results }: Diagnosis): string | undefined => {
  const findings = count(results, "finding")
  return findings === 0 ? undefined : findings === 1 ? "1 finding" : `${findings} findings`
}

/** The report for people: the checks by place, and the verdict as the last line. */
export const text = (diagnosis: Diagnosis): string => {
  const { results } = diagnosis
  const places = Object.entries(titles).flatMap(([place, title]) => {
    const here = results.filter((result) => result.place === place)
    return here.length === 0 ? [] : [title, ...here.flatMap(lines), ""]
  })
  const ok = count(results, "ok")
  return [
    ...places,
    `${verdict(diagnosis) ?? "no findings"}: ${ok} of ${results.length} checks are right, ` +
    `${count(results, "not_checked")} could not be checked`
  ].join("\n")
}

/** The report as one document. */
export const summary = (diagnosis: Diagnosis) => ({
  clean: verdict(diagnosis) === undefined,
  findings: count(diagnosis.results, "finding"),
  not_checked: count(diagnosis.results, "not_checked"),
  ok: count(diagnosis.results, "ok"),
  results: diagnosis.results.map(({ check, fault, found, place, state }) => ({
    place,
    check,
    state,
    found,
    consequence: fault?.consequence ?? null,
    remedy: fault?.remedy ?? null
  }))
})

/** The report for programs: one document a check, and the counts as the last one. */
export const documents = (diagnosis: Diagnosis): ReadonlyArray<Record<string, unknown>> => {
  const { results, ...counts } = summary(diagnosis)
  return [...results, counts]
}
