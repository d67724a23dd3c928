//! Whose request it is, seen past the proxies that we trust.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};

use crate::provider::egress::Network;

/// The proxies whose word counts on whom they ask for, and where they say it.
#[derive(Clone, Default, Debug)]
pub struct Proxies {
    trusted: Vec<Network>,
    by: ForwardedBy,
}

/// The one header that the proxies write. Another may have come through them from the client itself.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ForwardedBy {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Proxies {
    pub fn new(trusted: impl IntoIterator<Item = Network>, by: ForwardedBy) -> Self {
        Self { trusted: trusted.into_iter().collect(), by }
    }

    /// The address that is held responsible for a request; of IPv6 the /64, which is what one customer is given. `None`: the
    /// request comes from this machine, or through a proxy on it that does not tell, and limits by address would hit everybody.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return (!peer.is_loopback()).then(|| of_customer(peer));
        }
        let hops = match self.by {
            ForwardedBy::XForwardedFor => forwarded_for(headers),
            ForwardedBy::Forwarded => forwarded(headers),
        };
        Some(of_customer(self.last_untrusted(peer, &hops).unwrap_or(peer)))
    }

    /// Whose connections count together, if they are counted at all: neither this machine's nor those of a proxy, which asks for
    /// many.
    pub fn counted(&self, peer: IpAddr) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        (!peer.is_loopback() && !self.trusts(peer)).then(|| of_customer(peer))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// From right to left, as the proxies appended them: the first address that is not a trusted proxy. What cannot be read was
    /// not written by a proxy, so the one who passed it on is responsible. `None`: nobody told.
    fn last_untrusted(&self, peer: IpAddr, hops: &[Option<IpAddr>]) -> Option<IpAddr> {
        let mut client = peer;
        for hop in hops.iter().rev() {
            match hop {
                Some(address) if self.trusts(*address) => client = *address,
                Some(address) => return Some(*address),
                None => return Some(client),
            }
        }
        (!hops.is_empty()).then_some(client)
    }
}

fn of_customer(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

fn forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    elements(headers, &X_FORWARDED_FOR).map(|element| element.and_then(node)).collect()
}

/// The `for` of each hop (RFC 7239 §4); a hop without one, or hidden, is unreadable.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let hop = |element: &str| {
        let pair = element.split(';').filter_map(|pair| pair.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        node(pair?.1.trim().trim_matches('"'))
    };
    elements(headers, &header::FORWARDED).map(|element| element.and_then(hop)).collect()
}

/// The parts of a list header, over all its lines; `None` for a line that is no text.
fn elements<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<&'h str>> {
    let lines = headers.get_all(name).iter().map(|value| value.to_str().ok());
    lines.flat_map(|line| match line {
        Some(line) => line.split(',').map(|element| Some(element.trim())).collect::<Vec<_>>(),
        None => vec![None],
    })
}

/// An address, with or without a port, in brackets or not.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}
