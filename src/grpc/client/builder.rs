//! The settings of a client, and their checks.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use crate::grpc::client::address;
use crate::grpc::client::error::ClientError;

/// How a client waits between attempts to connect again.
///
/// The first pause is `first`; each further one is twice as long, up to `longest`. They start again
/// after a connection has lasted for `longest`, so a server that answers and hangs up at once is not
/// called ten times a second. Every pause is shortened at random by up to a quarter, so that the
/// clients of a restarted server do not all reconnect at once.
///
/// ```
/// use std::time::Duration;
/// use worker_pool::grpc::Backoff;
///
/// let patient = Backoff { longest: Duration::from_secs(60), ..Backoff::default() };
/// assert_eq!(patient.attempts, None); // never gives up
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause before the first new attempt; 100 ms by default.
    pub first: Duration,
    /// The longest pause; 10 s by default.
    pub longest: Duration,
    /// The client gives up after this number of failed attempts in a row; by default, `None`, never.
    /// An attempt succeeds if a snapshot arrives, or if there is a connection at the end of the connect
    /// timeout.
    pub attempts: Option<u32>,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(10),
            attempts: None,
        }
    }
}

impl Backoff {
    /// The pause before the attempt with this number; 1 is the first.
    pub(super) fn pause(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        let pause = full - (full / 4).mul_f64(random_part());
        pause.max(Duration::from_millis(1))
    }
}

/// From 0 to 1. The standard library seeds its hashers at random, which is random enough here.
fn random_part() -> f64 {
    let bits = std::hash::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Builds a [`CapacityClient`](super::CapacityClient); made by [`CapacityClient::builder`](super::CapacityClient::builder).
///
/// Its `Debug` shows neither the token nor the key.
#[derive(Clone)]
#[must_use = "nothing happens before `connect`"]
pub struct ClientBuilder {
    pub(super) address: String,
    pub(super) relay: bool,
    pub(super) token: Option<String>,
    pub(super) insecure: bool,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) keepalive: Duration,
    pub(super) reconnect: Option<Backoff>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Tls>,
}

/// What a client needs for TLS, as PEM.
#[cfg(feature = "tls")]
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) ca: Vec<u8>,
    pub(super) own: Option<(Vec<u8>, Vec<u8>)>,
}

#[cfg(feature = "tls")]
impl Tls {
    /// What is wrong with it; the core would only fail to connect, or panic on a NUL.
    fn fault(&self) -> Option<&'static str> {
        let is_pem = |text: &[u8], begin: &str| {
            !text.contains(&0) && text.windows(begin.len()).any(|at| at == begin.as_bytes())
        };
        let certificate = "-----BEGIN CERTIFICATE";
        if !is_pem(&self.ca, certificate) {
            return Some("`tls` was given no certificate of an authority in PEM");
        }
        match &self.own {
            Some((own, _)) if !is_pem(own, certificate) => {
                Some("`client_certificate` was given no certificate in PEM")
            }
            Some((_, key)) if !is_pem(key, "PRIVATE KEY-----") => {
                Some("`client_certificate` was given no private key in PEM")
            }
            _ => None,
        }
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ClientBuilder");
        shown
            .field("address", &self.address)
            .field("relay", &self.relay)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("reconnect", &self.reconnect);
        #[cfg(feature = "tls")]
        shown.field("tls", &self.tls.is_some());
        shown.finish_non_exhaustive()
    }
}

impl ClientBuilder {
    pub(super) fn new(address: String) -> Self {
        ClientBuilder {
            address,
            relay: false,
            token: None,
            insecure: false,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: None,
            keepalive: Duration::from_secs(330),
            reconnect: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Calls `relay.Capacity`, the newer name of the stream, instead of `solpipe.WorkerStatus`.
    /// The servers of this crate answer to both.
    pub fn relay(mut self) -> Self {
        self.relay = true;
        self
    }

    /// Speaks TLS, and trusts servers whose certificate was signed by one of these (PEM). The name
    /// or address that the client connects to must be in the certificate.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, ca_pem: impl Into<Vec<u8>>) -> Self {
        let own = self.tls.take().and_then(|tls| tls.own);
        let ca = ca_pem.into();
        self.tls = Some(Tls { ca, own });
        self
    }

    /// Sends this certificate (PEM, with its key) to a server that requests one. Needs
    /// [`tls`](Self::tls) as well.
    #[cfg(feature = "tls")]
    pub fn client_certificate(
        mut self,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Self {
        let ca = self.tls.take().map(|tls| tls.ca).unwrap_or_default();
        let own = Some((certificate_pem.into(), key_pem.into()));
        self.tls = Some(Tls { ca, own });
        self
    }

    /// Sends `authorization: Bearer <token>` with the call.
    ///
    /// Without TLS it can be read on the way: [`connect`](Self::connect) then fails for an address off
    /// loopback, unless [`insecure`](Self::insecure) is set.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Allows a token to be sent over the network without TLS.
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// How long one attempt to connect may take; 5 seconds by default, at least a millisecond.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Considers a connection lost if no snapshot arrives for this time. Set it above the server's
    /// interval, which is 30 seconds unless its owner changed it. Never, by default; at least a
    /// millisecond.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Pings a silent server this often, and considers the connection lost if no answer arrives within
    /// 20 seconds. 330 seconds by default, as gRPC servers disconnect clients that ping more often than
    /// every 5 minutes; the servers of this crate allow 10 seconds. At least a millisecond.
    pub fn keepalive(mut self, every: Duration) -> Self {
        self.keepalive = every;
        self
    }

    /// Reconnects when the connection is lost, with these pauses, instead of ending.
    ///
    /// This includes a server that ended the stream cleanly: it may be restarting. It does not include
    /// the first attempt, nor an error that [is permanent](ClientError::is_permanent).
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.reconnect = Some(backoff);
        self
    }

    pub(super) fn check(&self) -> Result<(), ClientError> {
        let wrong = |what: &str| Err(ClientError::config(&self.address, what));
        if let Some(fault) = address::fault(&self.address) {
            return wrong(fault);
        }
        let durations = [
            ("connect_timeout", Some(self.connect_timeout)),
            ("idle_timeout", self.idle_timeout),
            ("keepalive", Some(self.keepalive)),
        ];
        for (name, duration) in durations {
            // gRPC's unit.
            if duration.is_some_and(|duration| duration < Duration::from_millis(1)) {
                return wrong(&format!("`{name}` is shorter than a millisecond"));
            }
        }
        if let Some(token) = &self.token {
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return wrong("the token is empty or has characters that no header can carry");
            }
            if !self.is_secure() && !self.insecure && !address::is_loopback(&self.address) {
                return wrong("a token without TLS, off loopback, and `insecure` was not said");
            }
        }
        #[cfg(feature = "tls")]
        if let Some(fault) = self.tls.as_ref().and_then(Tls::fault) {
            return wrong(fault);
        }
        Ok(())
    }

    /// What this error of gRPC's means for a client with these settings.
    pub(super) fn error(&self, error: grpcio::Error) -> ClientError {
        ClientError::from_grpc(&self.address, self.is_secure(), error)
    }

    fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_millis(300),
            attempts: None,
        };
        let full = [100, 200, 300, 300, 300].map(Duration::from_millis);
        for (attempt, full) in (1..).zip(full) {
            let pause = backoff.pause(attempt);
            assert!(
                pause <= full && pause >= full.mul_f64(0.75),
                "before attempt {attempt}: {pause:?}, not within a quarter of {full:?}"
            );
        }
        assert!(Backoff::default().pause(u32::MAX) <= Duration::from_secs(10));
        let endless = Backoff {
            first: Duration::MAX,
            longest: Duration::MAX,
            attempts: None,
        };
        assert!(endless.pause(u32::MAX) > Duration::from_secs(1 << 60));
        let none = Backoff {
            first: Duration::ZERO,
            ..backoff
        };
        assert!(none.pause(9) > Duration::ZERO, "would spin");
    }
}
