//! Addresses: which are invalid, and which are loopback.

use std::net::IpAddr;

/// What is wrong with an address. gRPC's core would interpret a wrong one in some other way: without
/// a port it would connect to port 443, for instance.
pub(super) fn fault(address: &str) -> Option<&'static str> {
    if address.is_empty() {
        return Some("the address is empty");
    }
    if address.contains('\0') {
        return Some("the address has a NUL in it");
    }
    let other_schemes = ["unix:", "unix-abstract:", "xds:"];
    if other_schemes.iter().any(|it| address.starts_with(it)) {
        return None;
    }
    if address.contains(|letter: char| letter.is_control() || letter.is_whitespace()) {
        return Some("the address has blanks or control characters in it");
    }
    let is_good = |one: &str| {
        one.rsplit_once(':').is_some_and(|(host, port)| {
            // The core would parse the target as a URI and cut it off there.
            let is_uri = host.contains(['/', '?', '#', '@']);
            let is_v6 = host.starts_with('[') && host.ends_with(']');
            let is_host = !host.is_empty() && !host.contains([':', '%']);
            (is_v6 || is_host) && !is_uri && port.parse::<u16>().is_ok_and(|port| port != 0)
        })
    };
    if hosts(address).split(',').all(is_good) {
        None
    } else {
        Some("the address is not host:port, or [host]:port for IPv6")
    }
}

/// Whether this address can only mean this machine.
pub(super) fn is_loopback(address: &str) -> bool {
    if address.starts_with("unix:") || address.starts_with("unix-abstract:") {
        return true;
    }
    if address.starts_with("dns://") && !address.starts_with("dns:///") {
        return false; // that name server decides
    }
    hosts(address).split(',').all(|one| {
        let host = one.rsplit_once(':').map_or(one, |(host, _port)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// The address without its scheme, and without a name server in it.
fn hosts(address: &str) -> &str {
    if let Some((_name_server, host)) = address
        .strip_prefix("dns://")
        .and_then(|rest| rest.split_once('/'))
    {
        return host;
    }
    ["dns:", "ipv4:", "ipv6:"]
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme))
        .unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_meant_is_told_from_the_rest() {
        for good in [
            "127.0.0.1:1",
            "[::1]:65535",
            "pool.example.org:50051",
            "dns:pool:1",
            "dns:///pool:1",
            "dns://192.0.2.1/pool:1",
            "ipv4:192.0.2.1:1,192.0.2.2:1",
            "ipv6:[2001:db8::1]:1",
            "unix:/tmp/a socket",
            "unix-abstract:name",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in [
            "",
            " pool:1",
            "pool:1\n",
            "a\0b:1",
            "unix:/tmp/a\0b",
            "pool",
            "pool:",
            ":1",
            "pool:0",
            "pool:65536",
            "pool:port",
            "::1",
            "2001:db8::1:50051",
            "dns:///pool",
            "http://pool:1",
            "https://pool:1/",
            "pool?x:1",
            "user@pool:1",
            "127.0.0.1%2e:1",
            "ipv4:192.0.2.1:1,192.0.2.2",
        ] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for here in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "[::1]:1",
            "localhost:1",
            "unix:/tmp/socket",
            "dns:///localhost:1",
            "ipv4:127.0.0.1:1,127.0.0.1:2",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for away in [
            "10.0.0.1:1",
            "example.org:1",
            "localhost.example.org:1",
            "ipv4:127.0.0.1:1,10.0.0.1:2",
            "127.0.0.1.example.org:1",
            "dns:///example.org:1",
            "dns://192.0.2.1/localhost:1",
        ] {
            assert!(!is_loopback(away), "{away}");
        }
    }
}
