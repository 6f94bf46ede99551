import { generateKeyPairSync, sign } from "node:crypto"

const der = (tag: number, ...parts: ReadonlyArray<Buffer>) => {
  const body = Buffer.concat(parts)
  const length = body.length < 128 ? [body.length] : [0x82, body.length >> 8, body.length & 255]
  return Buffer.concat([Buffer.from([tag, ...length]), body])
}
const sequence = (...parts: ReadonlyArray<Buffer>) => der(0x30, ...parts)
const oid = (hex: string) => der(0x06, Buffer.from(hex, "hex"))
const time = (text: string) => der(0x17, Buffer.from(text))
const [commonName, basicConstraints, alternativeNames, ecdsaWithSha256] = [
  oid("550403"),
  oid("551d13"),
  oid("551d11"),
  oid("2a8648ce3d040302")
]
const pem = (label: string, body: Buffer) =>
  `-----BEGIN ${label}-----\n${body.toString("base64").replace(/.{64}/g, "$&\n").trimEnd()}\n-----END ${label}-----`

/** A new self-signed certificate for a host name with its key, as PEM. No key is stored in the repository. */
export const make = (host: string) => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" })
  const name = sequence(der(0x31, sequence(commonName, der(0x0c, Buffer.from(host)))))
  const algorithm = sequence(ecdsaWithSha256)
  const content = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    algorithm,
    name,
    sequence(time("200101000000Z"), time("491231235959Z")),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(
      0xa3,
      sequence(
        sequence(basicConstraints, der(0x01, Buffer.from([255])), der(0x04, sequence(der(0x01, Buffer.from([255]))))),
        sequence(alternativeNames, der(0x04, sequence(der(0x82, Buffer.from(host)))))
      )
    )
  )
  const signature = der(0x03, Buffer.from([0]), sign("sha256", content, privateKey))
  return {
    certificate: pem("CERTIFICATE", sequence(content, algorithm, signature)),
    key: privateKey.export({ type: "pkcs8", format: "pem" }) as string
  }
}
