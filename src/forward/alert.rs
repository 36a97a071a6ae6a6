//! The one thing this plane ever says in TLS: a fatal alert, before any key exists (RFC 8446 section 6.2).
//!
//! Sent by the entrances that read a ClientHello and cannot pass it on, so that a client reports a reason instead of a
//! connection that was merely cut.

/// The description of a fatal alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alert(u8);

impl Alert {
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    pub const RECORD_OVERFLOW: Self = Self(22);
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    pub const ACCESS_DENIED: Self = Self(49);
    pub const DECODE_ERROR: Self = Self(50);
    pub const PROTOCOL_VERSION: Self = Self(70);
    pub const INTERNAL_ERROR: Self = Self(80);
    pub const MISSING_EXTENSION: Self = Self(109);
    pub const UNRECOGNIZED_NAME: Self = Self(112);

    /// The bytes to send: one unprotected record, fatal. TLS 1.2 and 1.3 write it alike (RFC 8446 section 5.1).
    pub const fn record(self) -> [u8; 7] {
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        [ALERT, 3, 3, 0, 2, FATAL, self.0]
    }
}

#[cfg(test)]
mod tests {
    use rustls::client::ClientConnection;
    use rustls::{AlertDescription, ClientConfig, Error, RootCertStore};

    use super::*;

    #[test]
    fn a_client_understands_every_alert() {
        let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let config = std::sync::Arc::new(config);
        for (alert, meaning) in [
            (Alert::UNEXPECTED_MESSAGE, AlertDescription::UnexpectedMessage),
            (Alert::RECORD_OVERFLOW, AlertDescription::RecordOverflow),
            (Alert::ILLEGAL_PARAMETER, AlertDescription::IllegalParameter),
            (Alert::ACCESS_DENIED, AlertDescription::AccessDenied),
            (Alert::DECODE_ERROR, AlertDescription::DecodeError),
            (Alert::PROTOCOL_VERSION, AlertDescription::ProtocolVersion),
            (Alert::INTERNAL_ERROR, AlertDescription::InternalError),
            (Alert::MISSING_EXTENSION, AlertDescription::MissingExtension),
            (Alert::UNRECOGNIZED_NAME, AlertDescription::UnrecognisedName),
        ] {
            let mut client = ClientConnection::new(config.clone(), "a.example".try_into().unwrap()).unwrap();
            client.read_tls(&mut &alert.record()[..]).unwrap();
            assert_eq!(client.process_new_packets().unwrap_err(), Error::AlertReceived(meaning));
        }
    }
}
