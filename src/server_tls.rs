//! TLS towards clients, as both planes have it: a certificate and its key from PEM files, read again when they change.
//!
//! A leaf. `dns` serves encrypted queries with it, `forward` HTTPS; both say what their protocol offers (ALPN).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use aws_lc_rs::digest::{self, digest};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::whole_file;

/// Patience for a client's handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(30);
/// What has changed is taken this much later: two files are not replaced at once.
const SETTLE: Duration = Duration::from_secs(1);
/// Patience for both files at a reload: on a file system that hangs they never come.
const READ: Duration = Duration::from_secs(5);
/// Octets of a file at most: a chain has a few thousand.
const MAX_FILE: usize = 1 << 20;

/// Where a certificate chain and its key are, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The keys of the configuration that name them, for errors.
    pub named_by: &'static str,
}

/// Why a certificate cannot be used; the operator's to correct.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {}: {reason}: name PEM files in {named_by}", path.display())]
    Unreadable { path: PathBuf, reason: String, named_by: &'static str },
    #[error("{} and {} do not belong together: {reason}", certificate.display(), key.display())]
    Unfit { certificate: PathBuf, key: PathBuf, reason: rustls::Error },
}

/// A certificate as it was last read whole; a handshake takes what is there when it begins.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    pair: RwLock<Arc<CertifiedKey>>,
    read: Mutex<Reads>,
}

/// What was read last, by its digest, whether it could be used or not.
#[derive(Debug)]
struct Reads {
    used: [u8; digest::SHA256_OUTPUT_LEN],
    refused: Option<String>,
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// A file that cannot be read, or a key of another certificate.
    pub fn read(files: CertificateFiles) -> Result<Arc<Self>, CertificateError> {
        let content = files.content()?;
        let pair = RwLock::new(Arc::new(files.parse(&content)?));
        let read = Mutex::new(Reads { used: content.digest(), refused: None });
        Ok(Arc::new(Self { files, pair, read }))
    }

    /// As [`Certificate::read`], on a thread that may block, for five seconds at most.
    ///
    /// # Errors
    /// As [`Certificate::read`]; a file system that does not answer in time.
    pub async fn read_apart(files: CertificateFiles) -> Result<Arc<Self>, CertificateError> {
        let late = files.late();
        apart(READ, move || Self::read(files)).await.unwrap_or(Err(late))
    }

    /// As [`Certificate::refresh`], on a thread that may block; what takes more than five seconds goes on without the caller.
    pub async fn refresh_apart(self: &Arc<Self>) {
        let current = Arc::clone(self);
        if apart(READ, move || current.refresh()).await.is_none() {
            tracing::warn!("{}; the certificate read before stays in use", self.files.late());
        }
    }

    pub fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// Settings for a listener that offers these protocols; its handshakes take the certificate of their moment.
    ///
    /// # Errors
    /// None that the provider we are built with can cause.
    pub fn settings(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>, CertificateError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|reason| self.files.unfit(reason))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut settings = builder.with_no_client_auth().with_cert_resolver(resolver);
        settings.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(settings))
    }

    /// Reads the files again; what cannot be used is warned of once, and the last good pair stays. Blocks.
    pub fn refresh(&self) {
        let mut read = match self.read.try_lock() {
            Ok(read) => read,
            Err(TryLockError::Poisoned(read)) => read.into_inner(),
            // Somebody reads them now, perhaps from a file system that hangs: one thread waits for it, not one each time.
            Err(TryLockError::WouldBlock) => return,
        };
        let parsed = self.files.content().and_then(|content| {
            let digest = content.digest();
            let changed = (digest != read.used).then(|| self.files.parse(&content)).transpose()?;
            Ok(changed.map(|pair| (pair, digest)))
        });
        let certificate = self.files.certificate.display();
        match parsed {
            Ok(None) => read.refused = None,
            Ok(Some((pair, digest))) => {
                *self.pair.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                *read = Reads { used: digest, refused: None };
                tracing::info!("{certificate} has changed: new connections get the new certificate");
            }
            Err(error) => {
                let words = error.to_string();
                if read.refused.as_ref() != Some(&words) {
                    tracing::warn!("{words}; the certificate read before stays in use");
                    read.refused = Some(words);
                }
            }
        }
    }

    /// Looks at the files every 30 s for as long as anybody uses the certificate, and takes up what has changed. Must be
    /// called within a runtime.
    pub fn follow(self: &Arc<Self>) {
        let certificate = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(LOOK).await;
                let Some(current) = certificate.upgrade() else { return };
                let (current, changed) = blocking(current, Self::has_changed).await;
                if changed {
                    sleep(SETTLE).await;
                    blocking(current, Self::refresh).await;
                }
            }
        });
    }

    /// Whether the files differ from what is in use, or cannot be read.
    fn has_changed(&self) -> bool {
        let used = self.read.lock().unwrap_or_else(PoisonError::into_inner).used;
        self.files.content().map_or(true, |content| content.digest() != used)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Does what may block for ever on a thread that may; `None` if it is not done within `patience`.
async fn apart<T: Send + 'static>(patience: Duration, act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    timeout(patience, tokio::task::spawn_blocking(act)).await.ok()?.ok()
}

/// Does what blocks on a thread that may.
async fn blocking<T: Default + Send + 'static>(
    certificate: Arc<Certificate>,
    act: impl FnOnce(&Certificate) -> T + Send + 'static,
) -> (Arc<Certificate>, T) {
    let acting = Arc::clone(&certificate);
    // It fails only where the runtime ends.
    let done = tokio::task::spawn_blocking(move || act(&acting)).await.unwrap_or_default();
    (certificate, done)
}

/// Both files as they are.
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Content {
    fn digest(&self) -> [u8; digest::SHA256_OUTPUT_LEN] {
        let both = [&self.certificate, &self.key].map(|file| digest(&digest::SHA256, file));
        let whole = digest(&digest::SHA256, &[both[0].as_ref(), both[1].as_ref()].concat());
        std::array::from_fn(|at| whole.as_ref().get(at).copied().unwrap_or_default())
    }
}

impl CertificateFiles {
    fn content(&self) -> Result<Content, CertificateError> {
        let read = |path: &Path| match whole_file::read(path, MAX_FILE) {
            Ok((content, ..)) => Ok(content),
            Err(error) => Err(self.unreadable(path, error.to_string())),
        };
        Ok(Content { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    fn parse(&self, content: &Content) -> Result<CertifiedKey, CertificateError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&content.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| self.unreadable(&self.certificate, error.to_string()))?;
        if chain.is_empty() {
            return Err(self.unreadable(&self.certificate, "no certificate in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&content.key)
            .map_err(|error| self.unreadable(&self.key, error.to_string()))?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(|reason| self.unfit(reason))
    }

    fn late(&self) -> CertificateError {
        self.unreadable(&self.certificate, format!("no answer within {} s", READ.as_secs()))
    }

    fn unreadable(&self, path: &Path, reason: String) -> CertificateError {
        CertificateError::Unreadable { path: path.to_owned(), reason, named_by: self.named_by }
    }

    fn unfit(&self, reason: rustls::Error) -> CertificateError {
        CertificateError::Unfit { certificate: self.certificate.clone(), key: self.key.clone(), reason }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Takes a client's handshake; `None` from one that leaves before its first byte, as a load balancer's health check does.
///
/// # Errors
/// The client speaks no TLS that we take, or needs longer than 10 s.
pub async fn accept(settings: &Arc<ServerConfig>, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
    let handshake = async {
        if !matches!(stream.peek(&mut [0]).await, Ok(1)) {
            return Ok(None);
        }
        TlsAcceptor::from(Arc::clone(settings)).accept(stream).await.map(Some)
    };
    timeout(HANDSHAKE, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;

    /// A folder with a pair of files, and what writes another pair into it.
    fn files(folder: &TempDir) -> CertificateFiles {
        let at = |name: &str| folder.path().join(name);
        CertificateFiles { certificate: at("tls.crt"), key: at("tls.key"), named_by: "dns.tls_certificate and tls_key" }
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["dns.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn write(files: &CertificateFiles, (certificate, key): &(String, String)) {
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
    }

    fn shown(certificate: &Certificate) -> Vec<u8> {
        certificate.pair.read().unwrap().cert[0].to_vec()
    }

    #[test]
    fn a_file_that_is_missing_broken_or_of_another_pair_is_named_with_the_reason() {
        let folder = TempDir::new().unwrap();
        let files = files(&folder);
        let refused = || Certificate::read(files.clone()).unwrap_err().to_string();
        assert!(refused().ends_with("name PEM files in dns.tls_certificate and tls_key"));
        write(&files, &("nothing".to_owned(), pair().1));
        assert!(refused().contains("tls.crt: no certificate in it"));
        write(&files, &(pair().0, "nothing".to_owned()));
        assert!(refused().contains("tls.key"));
        write(&files, &(pair().0, pair().1));
        assert!(refused().contains("do not belong together"));
    }

    #[test]
    fn the_last_good_pair_stays_until_there_is_another() {
        let folder = TempDir::new().unwrap();
        let (files, first, second) = (files(&folder), pair(), pair());
        write(&files, &first);
        let certificate = Certificate::read(files.clone()).unwrap();
        let before = shown(&certificate);
        // As while the one is replaced and the other is not.
        write(&files, &(second.0.clone(), first.1));
        certificate.refresh();
        assert_eq!(shown(&certificate), before);
        fs::remove_file(&files.key).unwrap();
        certificate.refresh();
        assert_eq!(shown(&certificate), before);
        write(&files, &second);
        certificate.refresh();
        assert_ne!(shown(&certificate), before);
    }

    #[tokio::test]
    async fn whoever_waits_for_files_that_never_come_goes_on() {
        let never = || std::thread::sleep(Duration::from_secs(1));
        assert_eq!(apart(Duration::from_millis(1), never).await, None);
        assert_eq!(apart(READ, || 1).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_on_disk_is_taken_up_by_itself() {
        let folder = TempDir::new().unwrap();
        let files = files(&folder);
        write(&files, &pair());
        let certificate = Certificate::read(files.clone()).unwrap();
        certificate.follow();
        let before = shown(&certificate);
        sleep(3 * LOOK).await;
        assert_eq!(shown(&certificate), before, "the same content is the same pair");
        write(&files, &pair());
        sleep(LOOK + 2 * SETTLE).await;
        assert_ne!(shown(&certificate), before);
    }
}
