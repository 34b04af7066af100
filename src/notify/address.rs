//! Which addresses are never connected to: link-local ones, where clouds answer with credentials.
//!
//! The check is made on the address that a connection goes to, after resolving: a name that points
//! there, `0x7f.1`-like spellings and IPv4 inside IPv6 make no difference. Private and loopback
//! addresses are allowed, for the operator wrote the URL.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A connection that is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a link-local address, where clouds keep credentials; it is never connected to")]
pub(super) struct Refused(IpAddr);

impl Refused {
    /// Whether `error` comes from one.
    pub(super) fn is_behind<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        std::iter::successors(Some(error), |&error| error.source())
            .find_map(|error| error.downcast_ref())
    }
}

/// Whether `address` is link-local in any spelling.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => {
            // AWS has a second door, in the range of unique local addresses.
            const AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            let embedded = embedded_v4(v6).is_some_and(|v4| v4.is_link_local());
            v6.is_unicast_link_local() || embedded || v6 == AWS
        }
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, 6to4 and NAT64.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let from = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        Ipv4Addr::new(a, b, c, d)
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(from(g, h)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

/// Which addresses a client may connect to.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    /// Link-local addresses that the operator has listed.
    allowed: Arc<[IpAddr]>,
}

impl Guard {
    pub(super) fn new(allowed: &[IpAddr]) -> Self {
        Self {
            allowed: allowed.into(),
        }
    }

    fn check(&self, address: IpAddr) -> Result<(), Refused> {
        match is_link_local(address) && !self.allowed.contains(&address) {
            true => Err(Refused(address)),
            false => Ok(()),
        }
    }

    /// Checks the address that `url` itself names; names are for the resolver.
    pub(super) fn check_url(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // URL parsing has brought every spelling of an address to the canonical one.
        host.parse().map_or(Ok(()), |address| self.check(address))
    }

    /// The addresses of `host` that may be used, with `port`.
    pub(super) async fn lookup(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
        let found = tokio::net::lookup_host((host, port)).await?;
        Ok(self.filter(found)?)
    }

    /// The addresses among `found` that may be used.
    fn filter(&self, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let mut refused = None;
        let mut good = Vec::new();
        for address in found {
            match self.check(address.ip()) {
                Ok(()) => good.push(address),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(refused) if good.is_empty() => Err(refused),
            Some(_) | None => Ok(good),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let good: Addrs = Box::new(guard.filter(found)?.into_iter());
            Ok(good)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use reqwest::Url;

    use super::{Guard, Refused, is_link_local};

    #[test]
    fn link_local_addresses_are_known_in_every_spelling() {
        let cases = [
            ("http://169.254.169.254/latest", true),
            ("http://169.254.0.1:8080/", true),
            ("http://0xa9fea9fe/", true),
            ("http://2852039166/", true),
            ("http://0251.0376.169.254/", true),
            ("http://169.254.43518/", true),
            ("http://[fe80::1]/", true),
            ("http://[febf::1]/", true),
            ("http://[::ffff:169.254.169.254]/", true),
            ("http://[::169.254.169.254]/", true),
            ("http://[64:ff9b::a9fe:a9fe]/", true),
            ("http://[2002:a9fe:a9fe::1]/", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://127.0.0.1/", false),
            ("http://0x7f.1/", false),
            ("http://[::1]/", false),
            ("http://[::ffff:10.0.0.1]/", false),
            ("http://10.1.2.3/", false),
            ("http://192.168.0.1/", false),
            ("http://[fc00::1]/", false),
            ("http://169.253.0.1/", false),
            ("http://[fec0::1]/", false),
            ("https://hooks.example/", false),
        ];
        for (url, refused) in cases {
            let url = Url::parse(url).unwrap();
            assert_eq!(Guard::default().check_url(&url).is_err(), refused, "{url}");
        }
    }

    #[test]
    fn a_listed_address_is_allowed() {
        let listed: IpAddr = "169.254.10.20".parse().unwrap();
        let guard = Guard::new(&[listed]);
        assert!(is_link_local(listed));
        guard.check(listed).unwrap();
        guard.check("169.254.10.21".parse().unwrap()).unwrap_err();
    }

    #[test]
    fn a_name_is_judged_by_its_addresses() {
        let bad: SocketAddr = "169.254.169.254:0".parse().unwrap();
        let good: SocketAddr = "10.0.0.1:0".parse().unwrap();
        let guard = Guard::default();
        assert_eq!(guard.filter([bad].into_iter()), Err(Refused(bad.ip())));
        let both = guard.filter([bad, good].into_iter());
        assert_eq!(both, Ok(vec![good]), "only the good one is used");
        assert_eq!(guard.filter(std::iter::empty()), Ok(Vec::new()));
    }
}
