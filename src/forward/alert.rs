//! TLS alerts (RFC 8446 section 6), for clients that are turned away before there is any TLS.
//!
//! `sni` sends one, so that the client's error says more than "connection closed".

/// The description of a fatal alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alert(pub(super) u8);

impl Alert {
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    pub const DECODE_ERROR: Self = Self(50);
    pub const ACCESS_DENIED: Self = Self(49);
    pub const INTERNAL_ERROR: Self = Self(80);
    pub const UNRECOGNIZED_NAME: Self = Self(112);
    pub const MISSING_EXTENSION: Self = Self(109);

    /// The whole record: an alert in the clear, of the version that every client reads.
    pub fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self.0]
    }
}
