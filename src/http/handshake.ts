/** Why TLS handshakes fail in the field, by OpenSSL's code, in words for whoever has to change something. */
const reasons: Readonly<Record<string, string>> = {
  ERR_SSL_NO_SHARED_CIPHER: 'the client offers no suite that this server has (iPXE before 2022 has no ECDHE)',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'the client speaks no TLS version from 1.2 on',
  ERR_SSL_VERSION_TOO_LOW: 'the client speaks no TLS version from 1.2 on',
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'the client does not trust our root certificate',
  ERR_SSL_TLS_ALERT_UNKNOWN_CA: 'the client does not trust our root certificate',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: 'the client does not accept our certificate',
  ERR_SSL_SSL_TLS_ALERT_CERTIFICATE_UNKNOWN: 'the client does not accept our certificate',
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: 'the client does not accept our certificate',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: "the client's clock is outside our certificate's lifetime",
  ERR_SSL_SSL_TLS_ALERT_CERTIFICATE_EXPIRED: "the client's clock is outside our certificate's lifetime",
  ERR_SSL_HTTP_REQUEST: 'plain HTTP was spoken to the HTTPS port',
  ERR_SSL_WRONG_VERSION_NUMBER: 'what was spoken is not TLS',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'the client did not finish the handshake in time',
  ECONNRESET: 'the client hung up (an iPXE that does not trust our root does so without a word)',
}

/** A failed handshake's cause: a code for counting, and words. */
export function handshakeFault(error: unknown): { cause: string; reason: string } {
  const code = (error as { code?: unknown } | null)?.code
  const cause = typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : 'unknown'
  return { cause, reason: reasons[cause] ?? 'the handshake failed' }
}
