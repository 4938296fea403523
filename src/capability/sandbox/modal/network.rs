//! What a sandbox may reach, in Modal's terms.

use super::super::Network;
use crate::capability::allow_list::AllowList;
use crate::capability::modal::messages::client::NetworkAccess;
use crate::capability::modal::messages::client::network_access::NetworkAccessType;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::net::IpAddr;

/// The policy of a sandbox from its creation on. An allow-list without a line reaches nothing, and can be exchanged for
/// another one later; a blocked network could not.
pub(super) fn access(network: &Network) -> Result<NetworkAccess> {
    let (kind, cidrs, domains) = match network {
        Network::Host => (NetworkAccessType::Open, Vec::new(), Vec::new()),
        Network::None => (NetworkAccessType::Allowlist, Vec::new(), Vec::new()),
        Network::Allow(lines) => {
            let (cidrs, domains) = split(lines)?;
            (NetworkAccessType::Allowlist, cidrs, domains)
        }
    };
    Ok(NetworkAccess { network_access_type: kind.into(), allowed_cidrs: cidrs, allowed_domains: domains })
}

/// The policy of a sandbox that runs: only allow-lists can be set, so that everything is a list of all there is.
pub(super) fn exchanged(network: &Network) -> Result<NetworkAccess> {
    match network {
        Network::Host => Ok(NetworkAccess {
            network_access_type: NetworkAccessType::Allowlist.into(),
            allowed_cidrs: vec!["0.0.0.0/0".into(), "::/0".into()],
            allowed_domains: vec!["*".into()],
        }),
        other => access(other),
    }
}

/// The word for it in reports.
pub(super) fn word(network: &Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Host => "host",
        Network::Allow(_) => "allow-list",
    }
}

/// Addresses and names of an allow-list.
fn split(lines: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    AllowList::parse(lines)?;
    let (mut cidrs, mut domains) = (Vec::new(), Vec::new());
    for line in lines {
        let line = line.trim().to_ascii_lowercase();
        match line.trim_matches(['[', ']']).parse() {
            Ok(IpAddr::V4(address)) => cidrs.push(format!("{address}/32")),
            Ok(IpAddr::V6(address)) => cidrs.push(format!("{address}/128")),
            Err(_) if line.contains(':') => return Err(with_port(&line)),
            Err(_) => domains.push(line),
        }
    }
    Ok((cidrs, domains))
}

fn with_port(line: &str) -> CapabilityError {
    let host = line.rsplit_once(':').map_or(line, |(host, _)| host);
    CapabilityError::new(
        ErrorKind::INVALID,
        format!(
            "`{line}`: allow-lists on Modal have no ports; write `{host}`, which allows all ports of it, or use \
                 the provider `local`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(lines: &[&str]) -> Network {
        Network::Allow(lines.iter().map(|line| (*line).to_owned()).collect())
    }

    #[test]
    fn names_and_addresses_are_told_apart_and_ports_refused() {
        let access = access(&allow(&["Example.com", "*.example.org", "192.0.2.7", "2001:db8::1"])).unwrap();
        assert_eq!(access.allowed_domains, ["example.com", "*.example.org"]);
        assert_eq!(access.allowed_cidrs, ["192.0.2.7/32", "2001:db8::1/128"]);
        assert_eq!(access.network_access_type(), NetworkAccessType::Allowlist);
        let error = super::access(&allow(&["example.com:8443"])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::INVALID);
        insta::assert_snapshot!(error.message, @"`example.com:8443`: allow-lists on Modal have no ports; write `example.com`, which allows all ports of it, or use the provider `local`");
    }

    #[test]
    fn nothing_is_an_empty_list_and_everything_a_full_one() {
        let none = access(&Network::None).unwrap();
        assert_eq!(
            (none.network_access_type(), none.allowed_domains.len()),
            (NetworkAccessType::Allowlist, 0)
        );
        assert_eq!(exchanged(&Network::None).unwrap(), none);
        let all = exchanged(&Network::Host).unwrap();
        assert_eq!(
            (all.network_access_type(), all.allowed_domains),
            (NetworkAccessType::Allowlist, vec!["*".into()])
        );
    }
}
