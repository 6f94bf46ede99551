import type { KeyObject } from "node:crypto"
import { generateKeyPairSync, randomBytes, sign } from "node:crypto"
import { isIP } from "node:net"

/** A certificate and its private key, both PEM. */
export interface Identity {
  readonly certificate: string
  readonly key: string
}

/** A certificate authority that lives as long as its process, for the local stack and for tests. */
export interface Authority {
  /** PEM, for those who are to trust it. */
  readonly certificate: string
  /** Issues a certificate for servers and clients. Its common name is the first name. */
  readonly issue: (options: IssueOptions) => Identity
}

export interface IssueOptions {
  /** Common name, and host names and IP addresses of the certificate. */
  readonly names: readonly [string, ...ReadonlyArray<string>]
  /** Default: one hour ago. */
  readonly from?: Date
  /** Default: in ten years. */
  readonly until?: Date
}

const year = 365 * 24 * 3_600_000

// DER, the encoding of X.509 (ITU-T X.690): tag, length, content
const der = (tag: number, ...parts: ReadonlyArray<Buffer>) => {
  const content = Buffer.concat(parts)
  const length = content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 255]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}
const sequence = (...parts: ReadonlyArray<Buffer>) => der(0x30, ...parts)
const octets = (content: Buffer) => der(0x04, content)
const utf8 = (text: string) => der(0x0c, Buffer.from(text))
const object = (hex: string) => der(0x06, Buffer.from(hex, "hex"))
const yes = der(0x01, Buffer.from([255]))
/** GeneralizedTime: years beyond 2049 too. */
const time = (date: Date) => der(0x18, Buffer.from(date.toISOString().replace(/[-:T]|\.\d+/g, "")))

// object identifiers of RFC 5280 and RFC 5758
const [commonName, basicConstraints, keyUsage, extendedKeyUsage, alternativeNames, ecdsaWithSha256] = [
  object("550403"),
  object("551d13"),
  object("551d0f"),
  object("551d25"),
  object("551d11"),
  object("2a8648ce3d040302")
]
const [serverAuth, clientAuth] = [object("2b06010505070301"), object("2b06010505070302")]

const pem = (content: Buffer) =>
  `-----BEGIN CERTIFICATE-----\n${
    content.toString("base64").replace(/.{64}/g, "$&\n").trimEnd()
  }\n-----END CERTIFICATE-----\n`

const subject = (name: string) => sequence(der(0x31, sequence(commonName, utf8(name))))

/** Bytes of an IP address, as the extension wants them. */
const addressBytes = (address: string) => {
  if (isIP(address) === 4) return Buffer.from(address.split(".").map(Number))
  const [head = "", tail = ""] = address.split("::")
  const [left, right] = [head, tail].map((part) => part.split(":").filter((group) => group !== ""))
  const zeros = Array.from({ length: 8 - left!.length - right!.length }, () => "0")
  const groups = address.includes("::") ? [...left!, ...zeros, ...right!] : left!
  return Buffer.concat(groups.map((group) => Buffer.from(group.padStart(4, "0"), "hex")))
}

const generalName = (name: string) => isIP(name) === 0 ? der(0x82, Buffer.from(name)) : der(0x87, addressBytes(name))

const newKeys = () => generateKeyPairSync("ec", { namedCurve: "prime256v1" })

interface Content {
  readonly issuer: string
  readonly name: string
  readonly from: Date
  readonly until: Date
  readonly publicKey: KeyObject
  readonly extensions: ReadonlyArray<Buffer>
}

const signed = (key: KeyObject, { extensions, from, issuer, name, publicKey, until }: Content) => {
  const algorithm = sequence(ecdsaWithSha256)
  const content = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    algorithm,
    subject(issuer),
    sequence(time(from), time(until)),
    subject(name),
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(...extensions))
  )
  return pem(sequence(content, algorithm, der(0x03, Buffer.from([0]), sign("sha256", content, key))))
}

const text = (key: KeyObject) => key.export({ type: "pkcs8", format: "pem" }) as string

/** Makes an authority of this name with a new key. The key is stored nowhere. */
export const make = (name: string): Authority => {
  const keys = newKeys()
  const hourAgo = () => new Date(new Date().getTime() - 3_600_000)
  const inTenYears = () => new Date(new Date().getTime() + 10 * year)
  return {
    certificate: signed(keys.privateKey, {
      issuer: name,
      name,
      from: hourAgo(),
      until: inTenYears(),
      publicKey: keys.publicKey,
      extensions: [
        sequence(basicConstraints, yes, octets(sequence(yes))),
        // keyCertSign and cRLSign
        sequence(keyUsage, yes, octets(der(0x03, Buffer.from([1, 0b0000_0110]))))
      ]
    }),
    issue: ({ from = hourAgo(), names, until = inTenYears() }) => {
      const own = newKeys()
      return {
        certificate: signed(keys.privateKey, {
          issuer: name,
          name: names[0],
          from,
          until,
          publicKey: own.publicKey,
          extensions: [
            sequence(basicConstraints, yes, octets(sequence())),
            sequence(extendedKeyUsage, octets(sequence(serverAuth, clientAuth))),
            sequence(alternativeNames, octets(sequence(...names.map(generalName))))
          ]
        }),
        key: text(own.privateKey)
      }
    }
  }
}
