//! What can go wrong between a client and its server.

use std::fmt;
use std::time::Duration;

use grpcio::RpcStatusCode as Code;

/// Why a [`CapacityClient`](super::CapacityClient) has no connection, or lost it.
///
/// The `is_…` methods tell its kind; its text names the address and is meant for people.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientError {
    address: String,
    kind: Kind,
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Config,
    Unreachable,
    Tls,
    TimedOut,
    NotOurs,
    Unauthenticated,
    Exhausted,
    Protocol,
    Other,
}

impl ClientError {
    fn new(address: &str, kind: Kind, detail: impl Into<String>) -> Self {
        ClientError {
            address: address.to_owned(),
            kind,
            detail: detail.into(),
        }
    }

    pub(super) fn config(address: &str, detail: impl Into<String>) -> Self {
        ClientError::new(address, Kind::Config, detail)
    }

    pub(super) fn not_connected(address: &str, after: Duration) -> Self {
        ClientError::new(
            address,
            Kind::TimedOut,
            format!("not connected after {after:?}"),
        )
    }

    pub(super) fn idle(address: &str, after: Duration) -> Self {
        ClientError::new(
            address,
            Kind::TimedOut,
            format!("the server said nothing for {after:?}"),
        )
    }

    pub(super) fn internal(address: &str, detail: impl Into<String>) -> Self {
        ClientError::new(address, Kind::Other, detail)
    }

    pub(super) fn from_grpc(address: &str, is_secure: bool, error: grpcio::Error) -> Self {
        match error {
            // The core's only message when it cannot use a certificate or key.
            grpcio::Error::RpcFailure(status)
                if is_secure && status.message().starts_with("empty address list") =>
            {
                let detail = "the authority, the certificate or its key cannot be used";
                ClientError::config(address, detail)
            }
            grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)) => {
                ClientError::from_status(address, status.code(), status.message())
            }
            grpcio::Error::Codec(error) => {
                ClientError::new(address, Kind::Protocol, error.to_string())
            }
            grpcio::Error::RemoteStopped | grpcio::Error::RpcFinished(None) => {
                ClientError::new(address, Kind::Unreachable, "the connection was lost")
            }
            other => ClientError::new(address, Kind::Other, other.to_string()),
        }
    }

    fn from_status(address: &str, code: Code, message: &str) -> Self {
        let kind = match code {
            Code::UNAVAILABLE if names_tls(message) => Kind::Tls,
            Code::UNAVAILABLE => Kind::Unreachable,
            Code::DEADLINE_EXCEEDED => Kind::TimedOut,
            Code::UNIMPLEMENTED => Kind::NotOurs,
            Code::UNAUTHENTICATED | Code::PERMISSION_DENIED => Kind::Unauthenticated,
            // The core reports a message above the client's limit with the same code.
            Code::RESOURCE_EXHAUSTED if message.contains("larger than max") => Kind::Protocol,
            Code::RESOURCE_EXHAUSTED => Kind::Exhausted,
            _ => Kind::Other,
        };
        let detail = match (kind, message.is_empty()) {
            (Kind::Other, _) => format!("{code}: {message}"),
            (_, true) => code.to_string(),
            (_, false) => shortened(message).to_owned(),
        };
        // The server's text may be shown on a terminal, which would execute escape sequences.
        let detail = detail.replace(|letter: char| letter.is_control(), " ");
        ClientError::new(address, kind, detail)
    }

    /// The address that the client was built with.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A setting of the builder cannot work; nothing was sent.
    pub fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// Nobody listens there, the name does not resolve, or the connection was lost.
    pub fn is_unreachable(&self) -> bool {
        self.kind == Kind::Unreachable
    }

    /// Client and server did not agree on TLS: a certificate that the other side does not trust, a
    /// wrong host name, an expired certificate.
    ///
    /// A server that speaks TLS to a client that does not, or the other way round, may also show as
    /// [`is_unreachable`](Self::is_unreachable): it only closes the connection.
    pub fn is_tls(&self) -> bool {
        self.kind == Kind::Tls
    }

    /// `connect_timeout` or `idle_timeout` passed.
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::TimedOut
    }

    /// A gRPC server answered, but it has no capacity stream (`UNIMPLEMENTED`).
    pub fn is_not_a_capacity_server(&self) -> bool {
        self.kind == Kind::NotOurs
    }

    /// The server rejected the token, or needs one (`UNAUTHENTICATED`, `PERMISSION_DENIED`).
    pub fn is_unauthenticated(&self) -> bool {
        self.kind == Kind::Unauthenticated
    }

    /// The server is at its limit of streams (`RESOURCE_EXHAUSTED`).
    pub fn is_exhausted(&self) -> bool {
        self.kind == Kind::Exhausted
    }

    /// The server sent something that is not a snapshot.
    pub fn is_protocol(&self) -> bool {
        self.kind == Kind::Protocol
    }

    /// Trying again without changing anything cannot help. A client that reconnects gives up on
    /// such an error.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self.kind,
            Kind::Config | Kind::NotOurs | Kind::Unauthenticated | Kind::Protocol
        )
    }
}

/// The core reports a failed handshake as `UNAVAILABLE`; only its text says more.
fn names_tls(message: &str) -> bool {
    // The name may contain one of the words, like `ssl.example.org`.
    if message.starts_with("DNS resolution failed") {
        return false;
    }
    let message = message.to_ascii_lowercase();
    ["handshake", "ssl", "certificate", "peer name"]
        .iter()
        .any(|word| message.contains(word))
}

/// The core's message without what comes before the reason: `failed to connect to all addresses; last error:
/// UNKNOWN: ipv4:127.0.0.1:1: ` and the like.
fn shortened(message: &str) -> &str {
    let Some((_, last)) = message.split_once("last error: ") else {
        return message;
    };
    let words = last.split_once(": ");
    let last = words.map_or(last, |(_status, rest)| rest);
    let last = match last.split_once(": ") {
        Some((address, rest)) if address.starts_with("ip") || address.starts_with("unix") => rest,
        _ => last,
    };
    last.trim_start_matches("Failed to connect to remote host: ")
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Config => "cannot be asked",
            Kind::Unreachable => "cannot be reached",
            Kind::Tls => "no agreement on TLS",
            Kind::TimedOut => "timed out",
            Kind::NotOurs => "has no capacity stream",
            Kind::Unauthenticated => "refuses this client",
            Kind::Exhausted => "serves no more clients",
            Kind::Protocol => "sent something that is not a snapshot",
            Kind::Other => "failed",
        };
        write!(f, "{}: {what}: {}", self.address, self.detail)
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientError")
            .field("kind", &self.kind)
            .field("address", &self.address)
            .field("detail", &self.detail)
            .finish()
    }
}

impl std::error::Error for ClientError {}

/// Why [`CapacityClient::recv_timeout`](super::CapacityClient::recv_timeout) has no snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecvError {
    /// None came in the given time; the client goes on.
    Timeout,
    /// The server ended the stream cleanly; nothing will follow.
    Ended,
    /// The stream ended with this error; nothing will follow.
    Failed(ClientError),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Timeout => f.write_str("no snapshot in the given time"),
            RecvError::Ended => f.write_str("the server ended the stream"),
            RecvError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecvError::Failed(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_questions() {
        let of = |code, text| ClientError::from_status("a:1", code, text);
        assert!(of(Code::UNIMPLEMENTED, "").is_not_a_capacity_server());
        assert!(of(Code::UNAUTHENTICATED, "").is_unauthenticated());
        assert!(of(Code::PERMISSION_DENIED, "").is_unauthenticated());
        assert!(of(Code::RESOURCE_EXHAUSTED, "full").is_exhausted());
        assert!(of(Code::UNAVAILABLE, "Connection refused").is_unreachable());
        assert!(of(Code::UNAVAILABLE, "Ssl handshake failed").is_tls());
        assert!(of(Code::DEADLINE_EXCEEDED, "").is_timeout());
        assert!(!of(Code::UNAVAILABLE, "Connection refused").is_permanent());
        assert!(of(Code::UNAUTHENTICATED, "").is_permanent());
        let wordy = "failed to connect to all addresses; last error: UNKNOWN: \
            ipv4:10.0.0.1:1: Failed to connect to remote host: No";
        let refused = of(Code::UNAVAILABLE, wordy);
        assert_eq!(refused.to_string(), "a:1: cannot be reached: No");
        let unknown = "DNS resolution failed for ssl.example.org:1: Domain name not found";
        assert!(of(Code::UNAVAILABLE, unknown).is_unreachable());
        let other = of(Code::INTERNAL, "odd");
        assert_eq!(other.to_string(), "a:1: failed: 13-INTERNAL: odd");
    }

    #[test]
    fn what_a_server_says_cannot_steer_a_terminal() {
        for code in [Code::INTERNAL, Code::UNAUTHENTICATED] {
            let error = ClientError::from_status("a:1", code, "\x1b[2Jgo\r\nb:1: fine\u{9b}1m");
            let shown = error.to_string();
            assert!(
                !shown.contains(|letter: char| letter.is_control()),
                "{shown:?}"
            );
        }
    }
}
