//! Where a provider's endpoints may be. Discovery names URLs that we then connect to, so a provider could send us into our own
//! network (SSRF).
//!
//! Addresses are judged where they are used: names by the resolver of the HTTP client, which hands on only what is permitted,
//! so that no second look-up can differ; addresses in URLs before the request, as no resolver is asked for them. Behind a proxy
//! it is the proxy that resolves names, and judges them.
//!
//! | address | allowed |
//! |---|---|
//! | public | always |
//! | private, loopback | on hosts that the configuration names, everywhere if the issuer itself is such an address, in `allow_networks` |
//! | link-local (cloud metadata), unspecified, multicast, reserved | in `allow_networks` |

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use super::names::Names;
use super::settings::Settings;

/// What one provider may be reached at. The default permits what is public.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// Hosts that the configuration names; lower case.
    named: BTreeSet<String>,
    is_private: bool,
    allowed: Vec<Network>,
}

/// A range of addresses, such as `10.0.0.0/8` or `fd00::/8`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// All addresses that a host has are in networks that are not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("its address is in a network that is not allowed; see `allow_networks`")]
pub struct Forbidden;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reach {
    Public,
    Private,
    Special,
}

impl Egress {
    pub fn of(settings: &Settings) -> Self {
        let issuer = settings.issuer.as_deref().and_then(|issuer| Url::parse(issuer).ok());
        let is_private = issuer.as_ref().and_then(Url::host).is_some_and(|host| match host {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(address) => reach(address.into()) == Reach::Private,
            Host::Ipv6(address) => reach(address.into()) == Reach::Private,
        });
        let endpoints = &settings.endpoints;
        let named = [&issuer, &endpoints.device_authorization, &endpoints.token, &endpoints.revocation, &endpoints.jwks, &settings.proxy];
        let named = named.into_iter().flatten().filter_map(Url::host_str).map(str::to_ascii_lowercase).collect();
        Self { named, is_private, allowed: settings.allow_networks.clone() }
    }

    /// Whether `address` may be connected to when `host`, as a URL writes it, is asked for.
    pub fn permits(&self, host: &str, address: IpAddr) -> bool {
        destinations(address).all(|destination| match own_reach(destination) {
            Reach::Public => true,
            Reach::Private if self.is_private || self.named.contains(&host.to_ascii_lowercase()) => true,
            Reach::Private | Reach::Special => self.allowed.iter().any(|network| network.holds(destination)),
        })
    }

    /// Whether the address in `url` may be connected to. Names pass: they are judged when they are resolved.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn check(&self, url: &Url) -> Result<(), Forbidden> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.permits(url.host_str().unwrap_or_default(), address) { Ok(()) } else { Err(Forbidden) }
    }
}

/// The resolver of an HTTP client: it keeps to itself what is not permitted.
pub struct Permitted {
    pub egress: Egress,
    pub names: Arc<Names>,
}

impl Resolve for Permitted {
    fn resolve(&self, name: Name) -> Resolving {
        let (egress, names) = (self.egress.clone(), Arc::clone(&self.names));
        Box::pin(async move {
            let found = names.addresses(name.as_str()).await?.into_iter();
            let permitted: Vec<SocketAddr> =
                found.filter(|found| egress.permits(name.as_str(), *found)).map(|found| SocketAddr::new(found, 0)).collect();
            if permitted.is_empty() {
                return Err(Box::new(Forbidden) as Box<dyn Error + Send + Sync>);
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

impl Network {
    /// Whether all that the address may lead to is within.
    pub fn contains(&self, address: IpAddr) -> bool {
        destinations(address).all(|destination| self.holds(destination))
    }

    fn holds(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let ((own, length), (other, other_length)) = (bits(self.address), bits(address));
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        length == other_length && own & mask == other & mask
    }
}

impl FromStr for Network {
    type Err = ();

    /// An address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(drop)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |prefix| prefix.parse().map_err(drop))?;
        if prefix <= longest { Ok(Self { address, prefix }) } else { Err(()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

/// The least public of all that the address may lead to.
fn reach(address: IpAddr) -> Reach {
    destinations(address).map(own_reach).max().unwrap_or(Reach::Special)
}

fn own_reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

/// Where an address may lead: to itself, or to IPv4 addresses that it embeds. At least one, and more where only the network on the
/// way knows which it is.
fn destinations(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let embedded = match address {
        IpAddr::V4(_) => [None; 4],
        IpAddr::V6(v6) => embedded(v6),
    };
    let itself = embedded.iter().all(Option::is_none).then_some(address);
    embedded.into_iter().flatten().map(IpAddr::V4).chain(itself)
}

/// The IPv4 addresses that an IPv6 address may lead to: mapped, compatible, NAT64 (RFC 6052, RFC 8215) and 6to4 (RFC 3056).
fn embedded(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let of = |high: u16, low: u16| [Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))), None, None, None];
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if (high, low) > (0, 1) => of(high, low),
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => of(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => of(high, low),
        [0x64, 0xff9b, 1, ..] => local_nat64(v6),
        [0x2002, high, low, ..] => of(high, low),
        _ => [None; 4],
    }
}

/// RFC 6052 §2.2 for prefixes of 48, 56, 64 and 96 bits, any of which a network may use within RFC 8215's. The octet of bits 64 to 71
/// is no part of an address. What begins with 0 is nobody's address (RFC 1122 §3.2.1.3), but what the other forms leave there.
fn local_nat64(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let [_, _, _, _, _, _, a, b, _, c, d, e, f, g, h, i] = v6.octets();
    [[a, b, c, d], [b, c, d, e], [c, d, e, f], [f, g, h, i]].map(|octets| (octets[0] != 0).then(|| octets.into()))
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [127, ..] | [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [198, 18..=19, ..] => Reach::Private,
        // A cloud's metadata service within the range of carriers.
        [100, 100, 100, 200] => Reach::Special,
        [100, 64..=127, ..] => Reach::Private,
        [0, ..] | [169, 254, ..] | [192, 0, 0, _] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => {
            Reach::Special
        }
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // A cloud's metadata service within the unique local range.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Reach::Special,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Private,
        // RFC 4291 §2.4: all that is in use for the world starts with 001; Teredo and documentation hide in there.
        [0x2001, 0 | 0xdb8, ..] => Reach::Special,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Special,
    }
}
