//! The settings of a server, and their checks.

use std::fmt;
use std::time::Duration;

use crate::grpc::server::error::ServerError;
#[cfg(feature = "tls")]
use crate::grpc::server::tls::ServerTls;
use crate::grpc::server::{self, CapacityServer, Listen};
use crate::grpc::services::auth::Token;
use crate::grpc::services::health::STREAMS;
use crate::grpc::services::{CapacityServices, Extras};
use crate::grpc::stream::source::Source;
use crate::grpc::stream::{Streams, Timing};
use crate::hook::meter::Meter;
use crate::sync::Arc;

/// Settings for a [`CapacityServer`], or for [`CapacityServices`] on a server of your own.
///
/// At least one [`pool`](Self::pool) is needed; all other settings have a default. Mistakes are
/// reported by [`start`](Self::start) and [`services`](Self::services), before anything runs.
#[must_use = "nothing is served before start() or services()"]
#[derive(Clone)]
pub struct CapacityBuilder {
    pools: Vec<(String, Meter)>,
    timing: Timing,
    max_streams: usize,
    token: Option<String>,
    extras: Extras,
    listen: Listen,
}

impl fmt::Debug for CapacityBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.pools.iter().map(|(name, _)| name).collect();
        f.debug_struct("CapacityBuilder")
            .field("pools", &names)
            .field("timing", &self.timing)
            .field("max_streams", &self.max_streams)
            .field("token", &self.token.as_ref().map(|_| ".."))
            .field("extras", &self.extras)
            .field("listen", &self.listen)
            .finish()
    }
}

impl Default for CapacityBuilder {
    fn default() -> Self {
        CapacityBuilder::new()
    }
}

impl CapacityBuilder {
    /// Defaults: loopback with a free port, a tick every 30 s, changes at most every 100 ms, and the
    /// services health, reflection and ORCA.
    pub fn new() -> CapacityBuilder {
        CapacityBuilder {
            pools: Vec::new(),
            timing: Timing {
                interval: Duration::from_secs(30),
                spacing: Some(Duration::from_millis(100)),
                opening: Duration::from_secs(10),
                window: Duration::from_secs(10),
            },
            max_streams: 4096,
            token: None,
            extras: Extras {
                health: true,
                open_health: false,
                reflection: true,
                orca: true,
                orca_shortest: Duration::from_secs(1),
            },
            listen: Listen {
                address: "127.0.0.1:0".to_owned(),
                insecure: false,
                max_message: 64 * 1024,
                keepalive: (Duration::from_secs(10), Duration::from_secs(5)),
                handshake: Duration::from_secs(10),
                #[cfg(feature = "tls")]
                tls: None,
            },
        }
    }

    /// Serves the pool that this meter is hooked into. Repeat for more pools: the first is the one
    /// that the capacity streams and the ORCA weights show; all have their own health, by name, and
    /// their own metrics.
    pub fn pool(mut self, name: impl Into<String>, meter: Meter) -> Self {
        self.pools.push((name.into(), meter));
        self
    }

    /// Time between two ticks; on each, every capacity stream gets a snapshot. 30 s unless set.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.timing.interval = interval;
        self
    }

    /// The shortest time between two snapshots because of changes. 100 ms unless set.
    ///
    /// After a quiet time a change is sent within 50 ms. If there are many changes, only the newest is
    /// sent, once per spacing. With many streams the spacing grows, so that reporting does not slow
    /// down jobs: it is the number of streams divided by 500 per second, up to 750 ms from 375 streams
    /// on. A larger spacing that you set is kept.
    pub fn change_spacing(mut self, spacing: Duration) -> Self {
        self.timing.spacing = Some(spacing);
        self
    }

    /// Sends snapshots on ticks only. (The health service still reports at once that a pool drains or
    /// closes, and a closed pool's streams still end at once.)
    pub fn without_changes(mut self) -> Self {
        self.timing.spacing = None;
        self
    }

    /// The limit on open streams, of all kinds together; further calls get RESOURCE_EXHAUSTED. 4,096
    /// unless set. Health streams have the same limit of their own, so that neither kind can crowd out
    /// the other; short health checks do not count.
    pub fn max_streams(mut self, streams: usize) -> Self {
        self.max_streams = streams;
        self
    }

    /// Accepts only calls with the header `authorization: Bearer <token>`; others get UNAUTHENTICATED
    /// before their request is read.
    ///
    /// Off loopback use it with TLS: without TLS the token can be read on the way.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Opens the health service to clients without the token. The probes of orchestrators and load
    /// balancers often cannot send one; they only learn whether a pool accepts jobs.
    pub fn health_without_token(mut self) -> Self {
        self.extras.open_health = true;
        self
    }

    /// Whether to serve `grpc.health.v1`. Yes unless set.
    pub fn health(mut self, on: bool) -> Self {
        self.extras.health = on;
        self
    }

    /// Whether to serve reflection, v1 and v1alpha. Yes unless set. It describes the services of this
    /// builder, not those that you add to a server of your own. A reflection stream without a question
    /// for [`request_timeout`](Self::request_timeout) is ended.
    pub fn reflection(mut self, on: bool) -> Self {
        self.extras.reflection = on;
        self
    }

    /// Whether to serve ORCA load reports. Yes unless set.
    pub fn orca(mut self, on: bool) -> Self {
        self.extras.orca = on;
        self
    }

    /// The shortest time between two ORCA reports, whatever a client asks for. 1 s unless set.
    pub fn orca_min_interval(mut self, interval: Duration) -> Self {
        self.extras.orca_shortest = interval;
        self
    }

    /// The window for ORCA's averages; choose it longer than a typical job. 10 s unless set.
    pub fn orca_window(mut self, window: Duration) -> Self {
        self.timing.window = window;
        self
    }

    /// How long a client may take to send its request after it opened a call, and each further
    /// question of a reflection stream; then its call ends with DEADLINE_EXCEEDED. 10 s unless set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timing.opening = timeout;
        self
    }

    /// Where to listen: `host:port`, port 0 for a free one. `127.0.0.1:0` unless set. If the name has
    /// several addresses, the first that can be listened on is used. `0.0.0.0` and `[::]` both mean
    /// every address of the machine, of IPv4 and IPv6, if it has both. (Like all settings below, this
    /// has no effect on [`services`](Self::services).)
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.listen.address = address.into();
        self
    }

    /// Allows an address that other machines can reach without TLS: they can read the capacity, and on
    /// the way the token can be read.
    pub fn insecure_off_loopback(mut self) -> Self {
        self.listen.insecure = true;
        self
    }

    /// Accepts TLS connections only.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.listen.tls = Some(tls);
        self
    }

    /// The largest request message, in bytes. 64 KiB unless set; a larger one fails its call, as does a
    /// compressed one of any size.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.listen.max_message = bytes;
        self
    }

    /// Pings a silent connection every `time`, and closes it if there is no answer for `timeout`. So the
    /// server notices clients that vanish. 10 s and 5 s unless set.
    pub fn keepalive(mut self, time: Duration, timeout: Duration) -> Self {
        self.listen.keepalive = (time, timeout);
        self
    }

    /// How long the TLS and HTTP/2 handshakes of a connection may take. 10 s unless set.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.listen.handshake = timeout;
        self
    }

    /// Starts a server.
    ///
    /// # Errors
    /// [`ServerError`], by kind. Nothing is left running then.
    pub fn start(self) -> Result<CapacityServer, ServerError> {
        let listen = self.listen.clone();
        let addresses = server::resolve(&listen)?;
        server::start(self.services()?, &listen, addresses)
    }

    /// Makes the services for a gRPC server of your own.
    ///
    /// # Errors
    /// [`ServerError`], by kind. Nothing is left running then.
    pub fn services(self) -> Result<CapacityServices, ServerError> {
        self.check()?;
        let token = match self.token.as_deref() {
            None => None,
            Some(token) => Some(Token::new(token).ok_or(ServerError::Setting {
                name: "token",
                needs: "at least one character, all printable ASCII without blanks",
            })?),
        };
        let window = self.timing.window;
        let pools = self.pools.into_iter();
        let sources = pools.map(|(name, meter)| Source::new(name, meter, window));
        let streams = Streams::new(sources.collect(), self.timing, self.max_streams);
        CapacityServices::new(Arc::new(streams), token, self.extras).map_err(ServerError::Thread)
    }

    fn check(&self) -> Result<(), ServerError> {
        if self.pools.is_empty() {
            return Err(ServerError::NoPool);
        }
        for (at, (name, _)) in self.pools.iter().enumerate() {
            let twice = self.pools[..at].iter().any(|(other, _)| other == name);
            if name.is_empty() || twice || STREAMS.contains(&name.as_str()) {
                return Err(ServerError::PoolName(name.clone()));
            }
        }
        let spacing = self.timing.spacing.unwrap_or(Duration::from_secs(1));
        span("interval", self.timing.interval)?;
        span("change_spacing", spacing)?;
        span("request_timeout", self.timing.opening)?;
        span("orca_window", self.timing.window)?;
        span("orca_min_interval", self.extras.orca_shortest)?;
        span("keepalive time", self.listen.keepalive.0)?;
        span("keepalive timeout", self.listen.keepalive.1)?;
        span("handshake_timeout", self.listen.handshake)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.listen.tls {
            span("reload_every", tls.reload_interval())?;
        }
        if self.max_streams == 0 {
            return Err(ServerError::Setting {
                name: "max_streams",
                needs: "at least 1",
            });
        }
        if !(64..=i32::MAX as usize).contains(&self.listen.max_message) {
            return Err(ServerError::Setting {
                name: "max_message_size",
                needs: "at least 64 bytes and less than 2 GiB",
            });
        }
        Ok(())
    }
}

impl CapacityServer {
    /// Settings, to be ended with [`start`](CapacityBuilder::start).
    pub fn builder() -> CapacityBuilder {
        CapacityBuilder::new()
    }
}

impl CapacityServices {
    /// Settings, to be ended with [`services`](CapacityBuilder::services).
    pub fn builder() -> CapacityBuilder {
        CapacityBuilder::new()
    }
}

/// gRPC counts milliseconds in 32 bits; a day is far below that.
fn span(name: &'static str, span: Duration) -> Result<(), ServerError> {
    let allowed = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
    if allowed.contains(&span) {
        Ok(())
    } else {
        Err(ServerError::Setting {
            name,
            needs: "from 1 ms to 24 h",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_in_the_error_that_refuses_it() {
        let builder = CapacityBuilder::new().pool("p", Meter::new());
        let error = builder.token("s3c ret").services().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3c"));
    }
}
