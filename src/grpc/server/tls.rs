//! TLS for the server: certificates from memory or from files, which are reloaded when they change.
//!
//! Every certificate is validated on a server of its own, which never starts, before it is used:
//! gRPC's core would silently keep the old one if the new one is bad.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use grpcio::{
    CertificateRequestType, ChannelBuilder, Environment, ServerBuilder, ServerCredentials,
    ServerCredentialsBuilder, ServerCredentialsFetcher,
};

use crate::grpc::server::error::ServerError;
use crate::grpc::stream::threads;
use crate::sync::unwind as panics;
use crate::sync::{Arc, Mutex, thread};

/// The server's certificate and key, and which clients it accepts.
///
/// Keys are never shown by `Debug` and never logged.
///
/// ```no_run
/// use worker_pool::Meter;
/// use worker_pool::grpc::{CapacityServer, ServerTls};
///
/// let tls = ServerTls::from_files("/etc/pool/cert.pem", "/etc/pool/key.pem")
///     .client_ca_file("/etc/pool/clients.pem"); // only clients with a certificate of this CA
/// let server = CapacityServer::builder()
///     .pool("encoders", Meter::new())
///     .address("0.0.0.0:7700")
///     .tls(tls)
///     .start()?;
/// # Ok::<(), worker_pool::grpc::ServerError>(())
/// ```
#[derive(Clone)]
pub struct ServerTls {
    certificate: Source,
    key: Source,
    client_ca: Option<Source>,
    reload: Duration,
}

#[derive(Clone)]
enum Source {
    Memory(Vec<u8>),
    File(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Memory(_) => f.write_str("PEM(..)"),
            Source::File(path) => path.fmt(f),
        }
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .field("client_ca", &self.client_ca)
            .field("reload", &self.reload)
            .finish()
    }
}

impl ServerTls {
    /// A certificate chain (the server's own first) and its private key, as PEM text.
    pub fn from_pem(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> ServerTls {
        ServerTls::new(
            Source::Memory(certificate.into()),
            Source::Memory(key.into()),
        )
    }

    /// The same from two PEM files. They are read again every ten seconds; if their contents have
    /// changed, new connections get the new certificate. If the new files cannot be used (half
    /// written, a key that does not match), the old certificate stays and a warning is logged.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> ServerTls {
        ServerTls::new(Source::File(certificate.into()), Source::File(key.into()))
    }

    fn new(certificate: Source, key: Source) -> ServerTls {
        ServerTls {
            certificate,
            key,
            client_ca: None,
            reload: Duration::from_secs(10),
        }
    }

    /// Mutual TLS: a client must have a certificate that one of these CAs (PEM text) has signed.
    pub fn client_ca_pem(mut self, ca: impl Into<Vec<u8>>) -> ServerTls {
        self.client_ca = Some(Source::Memory(ca.into()));
        self
    }

    /// The same from a PEM file, which is reloaded like the others.
    pub fn client_ca_file(mut self, ca: impl Into<PathBuf>) -> ServerTls {
        self.client_ca = Some(Source::File(ca.into()));
        self
    }

    /// How often files are checked for changes. Ten seconds unless set.
    pub fn reload_every(mut self, interval: Duration) -> ServerTls {
        self.reload = interval;
        self
    }

    pub(crate) fn reload_interval(&self) -> Duration {
        self.reload
    }

    fn has_files(&self) -> bool {
        let sources = [
            Some(&self.certificate),
            Some(&self.key),
            self.client_ca.as_ref(),
        ];
        let mut sources = sources.into_iter().flatten();
        sources.any(|source| matches!(source, Source::File(_)))
    }

    /// # Errors
    /// A text that names the source that cannot be read.
    fn read(&self) -> Result<Material, String> {
        let read = |what: &str, source: &Source, begins: &str| {
            let text = match source {
                Source::Memory(text) => text.clone(),
                Source::File(path) => std::fs::read(path).map_err(|error| {
                    format!("cannot read the {what} {}: {error}", path.display())
                })?,
            };
            // gRPC's builder panics on a NUL byte.
            let is_pem = String::from_utf8_lossy(&text).contains(begins);
            if !is_pem || text.contains(&0) {
                return Err(format!("the {what} is not PEM"));
            }
            Ok(text)
        };
        Ok(Material {
            certificate: read("certificate", &self.certificate, "-----BEGIN CERTIFICATE")?,
            key: read("private key", &self.key, "PRIVATE KEY-----")?,
            client_ca: match &self.client_ca {
                None => None,
                Some(ca) => Some(read("clients' CA", ca, "-----BEGIN CERTIFICATE")?),
            },
        })
    }
}

/// PEM texts that belong together.
#[derive(Clone, PartialEq, Eq)]
struct Material {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Material {
    fn client_certificates(mutual: bool) -> CertificateRequestType {
        if mutual {
            CertificateRequestType::RequestAndRequireClientCertificateAndVerify
        } else {
            CertificateRequestType::DontRequestClientCertificate
        }
    }

    fn builder(&self) -> ServerCredentialsBuilder {
        // A fetched configuration without any root aborts the process (an assertion in gRPC's core),
        // so the server's own certificate is used. Nothing is checked against it: client certificates
        // are not requested then.
        let root = self.client_ca.as_ref().unwrap_or(&self.certificate);
        ServerCredentialsBuilder::new()
            .root_cert(
                root.clone(),
                Material::client_certificates(self.client_ca.is_some()),
            )
            .add_cert(self.certificate.clone(), self.key.clone())
    }

    /// Whether gRPC's core accepts it. Opens a loopback port for a moment, without serving on it.
    fn validate(&self, env: &Arc<Environment>) -> Result<(), String> {
        let args = ChannelBuilder::new(Arc::clone(env))
            .reuse_port(false)
            .build_args();
        let mut server = ServerBuilder::new(Arc::clone(env))
            .channel_args(args)
            .build()
            .map_err(|error| error.to_string())?;
        match server.add_listening_port("127.0.0.1:0", self.builder().build()) {
            Ok(_) => Ok(()),
            Err(_) => Err("the certificate, its key or the clients' CA cannot be used".to_owned()),
        }
    }
}

/// Valid material that gRPC's core has not fetched yet.
struct Staged {
    /// Taken by the next connection.
    material: Mutex<Option<Material>>,
}

struct Fetcher(Arc<Staged>);

impl ServerCredentialsFetcher for Fetcher {
    /// Called from C for every new connection: it must be quick and must not panic.
    fn fetch(&self) -> Result<Option<ServerCredentialsBuilder>, Box<dyn Error>> {
        Ok(self
            .0
            .material
            .lock()
            .take()
            .map(|material| material.builder()))
    }
}

/// The thread that watches the files; dropping this ends and joins it.
pub(crate) struct Reloader {
    quit: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Reloader {
    fn drop(&mut self) {
        drop(self.quit.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a server needs to listen with TLS, and the thread that reloads it.
pub(crate) fn credentials(
    tls: ServerTls,
    env: &Arc<Environment>,
) -> Result<(ServerCredentials, Option<Reloader>), ServerError> {
    let material = tls.read().map_err(ServerError::Tls)?;
    material.validate(env).map_err(ServerError::Tls)?;
    let mutual = material.client_ca.is_some();
    let staged = Arc::new(Staged {
        material: Mutex::new(Some(material.clone())),
    });
    let fetcher = Box::new(Fetcher(Arc::clone(&staged)));
    let credentials =
        ServerCredentials::with_fetcher(fetcher, Material::client_certificates(mutual));
    let reloader = if tls.has_files() {
        Some(reloader(tls, material, staged, env)?)
    } else {
        None
    };
    Ok((credentials, reloader))
}

fn reloader(
    tls: ServerTls,
    first: Material,
    staged: Arc<Staged>,
    env: &Arc<Environment>,
) -> Result<Reloader, ServerError> {
    let (quit, quitting) = mpsc::channel::<()>();
    let env = Arc::clone(env);
    let run = move || {
        threads::register(());
        let mut seen = Ok(first);
        while let Err(mpsc::RecvTimeoutError::Timeout) = quitting.recv_timeout(tls.reload) {
            let check = || reload(&tls, &mut seen, &staged, &env);
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
                log::error!(
                    "reloading certificates panicked: {}",
                    panics::message(panic)
                );
            }
        }
    };
    let thread = thread::Builder::new()
        .name("capacity-certs".to_owned())
        .spawn(run)
        .map_err(ServerError::Thread)?;
    Ok(Reloader {
        quit: Some(quit),
        thread: Some(thread),
    })
}

/// Checks the files once. `seen` is what was found last, good or bad, so that each is logged once.
fn reload(
    tls: &ServerTls,
    seen: &mut Result<Material, String>,
    staged: &Staged,
    env: &Arc<Environment>,
) {
    if let Some(fresh) = accept(tls.read(), seen, |material| material.validate(env)) {
        *staged.material.lock() = Some(fresh);
    }
}

/// The material that was found, if it is new and valid.
fn accept(
    found: Result<Material, String>,
    seen: &mut Result<Material, String>,
    validate: impl FnOnce(&Material) -> Result<(), String>,
) -> Option<Material> {
    if found == *seen {
        return None;
    }
    // The cause of a failure may be temporary: only the reason is kept, so the same material is tried
    // again the next time.
    let tried = found.and_then(|material| validate(&material).map(|()| material));
    match &tried {
        Ok(_) => log::info!("the server's certificate was reloaded"),
        Err(reason) if tried != *seen => log::warn!("the old certificate stays: {reason}"),
        Err(_) => {}
    }
    *seen = tried;
    seen.clone().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_files_that_failed_for_a_passing_reason_are_tried_again() {
        let of = |text: &str| Material {
            certificate: text.into(),
            key: text.into(),
            client_ca: None,
        };
        let (old, new) = (of("old"), of("new"));
        let mut seen = Ok(old.clone());
        let mut look = |found: &Material, outcome: Result<(), &str>| {
            let mut tried = false;
            let taken = accept(Ok(found.clone()), &mut seen, |_| {
                tried = true;
                outcome.map_err(str::to_owned)
            });
            (tried, taken.is_some())
        };
        assert_eq!(look(&old, Ok(())), (false, false), "nothing new");
        assert_eq!(look(&new, Err("no port is free")), (true, false));
        assert_eq!(look(&new, Err("no port is free")), (true, false));
        assert_eq!(look(&new, Ok(())), (true, true));
        assert_eq!(look(&new, Ok(())), (false, false), "taken already");
    }
}
