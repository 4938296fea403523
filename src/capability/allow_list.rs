//! Allow-lists of hosts. Names are not resolved here; whoever does asks again about the address, so that an allowed name
//! cannot be pointed at this machine or its network.

use super::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::net::IpAddr;

/// Most lines of an allow-list.
const RULES_LIMIT: usize = 1000;
/// Ports that a rule without one allows.
pub const WEB_PORTS: [u16; 2] = [80, 443];

/// Hosts that may be reached: `example.com`, `*.example.com` or `host:port`. An empty list allows none.
#[derive(Clone, Debug, Default)]
pub struct AllowList(Vec<Rule>);

/// A line of an allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// In lower case; without the `*.` of a wildcard.
    host: String,
    wildcard: bool,
    port: Option<u16>,
}

impl AllowList {
    /// Reads its lines. `invalid` where one makes no sense.
    pub fn parse(lines: &[String]) -> Result<Self> {
        if lines.len() > RULES_LIMIT {
            return Err(CapabilityError::new(
                ErrorKind::INVALID,
                format!(
                    "an allow-list has at most {RULES_LIMIT} lines; use wildcards such as `*.example.com`"
                ),
            ));
        }
        lines.iter().map(|line| Rule::parse(line)).collect::<Result<_>>().map(Self)
    }

    /// The line that allows a host, in lower case, and a port.
    pub fn find(&self, host: &str, port: u16) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.covers(host, port))
    }

    /// Whether a line names this very host, on whatever port.
    pub fn names(&self, host: &str) -> bool {
        self.0.iter().any(|rule| rule.host == host)
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Self> {
        let invalid = || {
            CapabilityError::new(
                ErrorKind::INVALID,
                format!(
                    "`{line}` is no line of an allow-list: write `example.com`, `*.example.com` or `host:port`"
                ),
            )
        };
        let text = line.trim().to_ascii_lowercase();
        let (host, port) = split_port(&text).ok_or_else(invalid)?;
        let (wildcard, host) = host.strip_prefix("*.").map_or((false, host), |rest| (true, rest));
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(known) || host.starts_with('.') {
            return Err(invalid());
        }
        Ok(Self { host: host.into(), wildcard, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let named = if self.wildcard {
            host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        named && self.port.map_or(WEB_PORTS.contains(&port), |allowed| allowed == port)
    }

    /// Whether this address may be connected to, where the host has led to it: a public one, or any where the line
    /// names the machine or address itself.
    pub fn admits(&self, address: IpAddr) -> bool {
        self.is_literal() || is_public(address)
    }

    /// Whether the operator wrote down this very machine or address, and so means it.
    fn is_literal(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok()
    }
}

/// Host and port of `host`, `host:port`, `[v6]`, `[v6]:port` or a bare v6 address.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        None => Some((text, None)),
        Some((_, rest)) if rest.contains(':') => text.parse::<IpAddr>().ok().map(|_| (text, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
    }
}

/// Whether an address lies on the public internet: not this machine, not its network, not a metadata service.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (b == 18 || b == 19)))
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_public(v4.into());
            }
            // 64:ff9b::/96, 2002::/16 and 2001::/32 carry an IPv4 address that a translator would reach.
            let segments = v6.segments();
            let carries_v4 = segments[0] == 0x2002
                || (segments[0] == 0x64 && segments[1] == 0xff9b)
                || (segments[0] == 0x2001 && segments[1] == 0);
            (segments[0] & 0xe000) == 0x2000 && !carries_v4
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AllowList, is_public};

    fn allows(line: &str, host: &str, port: u16) -> bool {
        AllowList::parse(&[line.into()]).expect("a rule").find(host, port).is_some()
    }

    #[test]
    fn rules_cover_what_they_say_and_no_more() {
        assert!(allows("example.com", "example.com", 443));
        assert!(!allows("example.com", "example.com", 22));
        assert!(!allows("example.com", "www.example.com", 443));
        assert!(!allows("example.com", "example.com.evil.net", 443));
        assert!(allows("*.example.com", "a.b.example.com", 80));
        assert!(!allows("*.example.com", "example.com", 80));
        assert!(!allows("*.example.com", "evilexample.com", 80));
        assert!(allows("Example.com:8443", "example.com", 8443));
        assert!(!allows("example.com:8443", "example.com", 443));
        assert!(allows("[::1]:80", "::1", 80));
        for wrong in ["", "http://example.com", "a b", "example.com:port", "*.", "a/b"] {
            assert!(AllowList::parse(&[wrong.into()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_who_names_an_address_means_a_private_one() {
        let admits = |line: &str, host: &str, address: &str| {
            let list = AllowList::parse(&[line.into()]).expect("a rule");
            list.find(host, 80).expect("allowed").admits(address.parse().expect("an address"))
        };
        assert!(!admits("*.example.com", "a.example.com", "127.0.0.1"));
        assert!(!admits("intranet", "intranet", "10.0.0.1"));
        assert!(admits("example.com", "example.com", "1.1.1.1"));
        assert!(admits("10.0.0.1", "10.0.0.1", "10.0.0.1"));
        assert!(admits("localhost", "localhost", "::1"));
    }

    #[test]
    fn private_addresses_are_known_in_every_spelling() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:0:7f00:1::",
        ] {
            assert!(!is_public(private.parse().expect("an address")), "{private}");
        }
        for public in ["1.1.1.1", "140.82.112.3", "2606:4700::1111"] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
    }
}
