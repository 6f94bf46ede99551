import * as Tls from "../tls/Tls.js"

/** Texts of OpenSSL and Node, and their codes: grpc-js keeps only the text of a failed connection. */
const codes: ReadonlyArray<readonly [RegExp, string]> = [
  [/unable to verify the first certificate/, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
  [/self.signed certificate in certificate chain/, "SELF_SIGNED_CERT_IN_CHAIN"],
  [/self.signed certificate/, "DEPTH_ZERO_SELF_SIGNED_CERT"],
  [/unable to get local issuer certificate/, "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"],
  [/unable to get issuer certificate/, "UNABLE_TO_GET_ISSUER_CERT"],
  [/certificate signature failure/, "CERT_SIGNATURE_FAILURE"],
  [/certificate has expired/, "CERT_HAS_EXPIRED"],
  [/certificate is not yet valid/, "CERT_NOT_YET_VALID"],
  [/ERR_TLS_CERT_ALTNAME_INVALID|does not match certificate's altnames/, "ERR_TLS_CERT_ALTNAME_INVALID"],
  [/wrong version number/, "ERR_SSL_WRONG_VERSION_NUMBER"],
  [/packet length too long|record layer failure/, "ERR_SSL_PACKET_LENGTH_TOO_LONG"],
  [/alert certificate required/, "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED"],
  [/alert handshake failure/, "ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE"],
  [/alert unknown ca/, "ERR_SSL_TLSV1_ALERT_UNKNOWN_CA"],
  [/alert bad certificate/, "ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE"],
  [/alert certificate unknown/, "ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN"],
  [/alert certificate expired/, "ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED"]
]

/** A connection that the server has closed before the first answer, by the text of grpc-js. */
const closed =
  /Failed to connect|ECONNRESET|socket hang up|disconnected before secure TLS connection|NGHTTP2_PROTOCOL_ERROR/

/**
 * The message of a failed call in plain words, where its connection failed; any other message as it is. Removes the empty note
 * that grpc-js appends.
 */
export const explain = (details: string, tls: boolean): string => {
  const failed = /^No connection established\. Last error: /.test(details)
  const code = failed ? codes.find(([text]) => text.test(details))?.[1] : undefined
  const meaning = code === undefined ? undefined : Tls.explain({ code })
  if (meaning !== undefined) return `no connection: ${meaning}`
  const seen = failed ? closed.exec(details)?.[0] : undefined
  if (seen !== undefined) {
    const why = tls
      ? "during or after the TLS handshake: it may refuse our client certificate, or not speak TLS at this port"
      : "at once: it may speak TLS at this port"
    return `no connection: the server closed it ${why} (${seen})`
  }
  return details.replace(/\s*Resolution note:\s*$/, "")
}
