//! Whose certificates are believed: the platform's roots, and those that `forward.extra_roots` names.
//!
//! A leaf. `dns` dials encrypted upstream servers with it, the forwarder the names it passes requests on to; both set
//! what their protocol offers (ALPN) themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::{BuilderVerifierExt, Verifier};

/// Why there is nothing to check certificates with.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The operator's to correct.
    #[error("cannot read the roots in {}: {reason}: name a PEM file with certificates in forward.extra_roots", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// The platform's trust store and these files together make no verifier.
    #[error("certificates cannot be checked: {0}: install ca-certificates")]
    Unusable(rustls::Error),
}

/// TLS 1.2 and newer (RFC 9325 section 3.1.1), checked against the platform's roots and those in the PEM files
/// `extra_roots`.
///
/// A platform without roots is no error unless there are extra ones: every server is refused then, with the reason, and
/// who only dials plain ones is served.
///
/// # Errors
/// A file that cannot be read or holds no certificate.
pub fn client_config(extra_roots: &[PathBuf]) -> Result<ClientConfig, RootsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(RootsError::Unusable)?;
    if extra_roots.is_empty() {
        return match builder.with_platform_verifier() {
            Ok(builder) => Ok(builder.with_no_client_auth()),
            Err(error) => {
                tracing::warn!("no roots to trust servers by ({error}): install ca-certificates");
                trusting_nobody()
            }
        };
    }
    let mut roots = Vec::new();
    for path in extra_roots {
        roots.extend(certificates(path)?);
    }
    let verifier = Verifier::new_with_extra_roots(roots, provider()).map_err(RootsError::Unusable)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Refuses every certificate: for who needs the type and dials no encrypted server. Reads nothing.
///
/// # Errors
/// None that the provider we are built with can cause.
pub fn trusting_nobody() -> Result<ClientConfig, RootsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(RootsError::Unusable)?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let unreadable = |reason: String| RootsError::Unreadable { path: path.to_owned(), reason };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(error.to_string()))?;
    if certificates.is_empty() { Err(unreadable("no certificate in it".to_owned())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn refusal(path: PathBuf) -> String {
        client_config(&[path]).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_is_missing_broken_or_without_a_certificate_is_named_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let written = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let fix = "name a PEM file with certificates in forward.extra_roots";
        let missing = refusal("/nowhere/roots.pem".into());
        assert!(missing.starts_with("cannot read the roots in /nowhere/roots.pem: ") && missing.ends_with(fix));
        let empty = written("empty.pem", "# nothing here\n");
        assert_eq!(
            refusal(empty.clone()),
            format!("cannot read the roots in {}: no certificate in it: {fix}", empty.display())
        );
        let cut_off = written("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
        assert!(matches!(client_config(&[cut_off]), Err(RootsError::Unreadable { .. })));
    }
}
