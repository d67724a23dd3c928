//! Which hosts and origins are ours: against pages of others that have a browser send us requests (CSRF), and against pages whose
//! name suddenly leads to this machine (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;

use super::cors::Origins;
use super::problem::{Code, Problem};

/// A host as `Host` writes it: a name or an address, in lower case, perhaps with a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostName(String);

/// Where people find us, as far as browsers are concerned.
#[derive(Clone, Default)]
pub struct Site {
    /// Host and origin of `public_url`. Without it the host of a request is ours.
    pub public: Option<(HostName, HeaderValue)>,
    /// Also ours on a loopback listener.
    pub hosts: Vec<HostName>,
    /// Only this machine can connect, so a request for another name comes from a page that had it lead here.
    pub is_loopback: bool,
    pub origins: Origins,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Site {
    /// # Errors
    /// `misdirected_request` for a host that is not ours, `origin_not_allowed` for a change that a page of others asks for.
    pub fn admit(&self, request: &Request) -> Result<(), Problem> {
        if self.is_loopback && host(request).is_some_and(|host| !self.is_our_host(&host)) {
            return Err(Code::MisdirectedRequest.into());
        }
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
        if is_safe || self.may_change(request) { Ok(()) } else { Err(Code::OriginNotAllowed.into()) }
    }

    /// The router, for requests that are admitted.
    pub fn guard(self, router: Router) -> Router {
        let site = Arc::new(self);
        router.layer(from_fn(move |request: Request, next: Next| {
            let admitted = site.admit(&request);
            async move {
                match admitted {
                    Ok(()) => next.run(request).await,
                    Err(problem) => problem.into_response(),
                }
            }
        }))
    }

    fn is_our_host(&self, host: &HostName) -> bool {
        let is_named = |ours: &HostName| ours == host || ours.0 == host.name();
        host.is_loopback() || self.hosts.iter().any(is_named) || self.public.as_ref().is_some_and(|(ours, _)| is_named(ours))
    }

    /// What no browser sent says nothing of origins.
    fn may_change(&self, request: &Request) -> bool {
        let headers = request.headers();
        let Ok(origin) = only(headers, &header::ORIGIN) else { return false };
        if origin.is_some_and(|origin| self.origins.allow_change(origin, request.uri().path())) {
            return true;
        }
        match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            Some(b"cross-site") => false,
            Some(b"same-origin") => true,
            _ => origin.is_none_or(|origin| self.is_our_origin(origin, request)),
        }
    }

    fn is_our_origin(&self, origin: &HeaderValue, request: &Request) -> bool {
        if let Some((_, ours)) = &self.public {
            return origin == ours;
        }
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        authority.and_then(HostName::read).is_some_and(|theirs| Some(theirs) == host(request))
    }
}

impl HostName {
    /// As a `Host` header has it (RFC 9110 §7.2); absent if it is none.
    pub fn read(text: &str) -> Option<Self> {
        let authority: axum::http::uri::Authority = text.parse().ok()?;
        let is_plain = !authority.host().is_empty() && !text.contains('@');
        is_plain.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Without the port.
    fn name(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.0,
        }
    }

    fn is_loopback(&self) -> bool {
        let name = self.name().trim_end_matches('.');
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        match address.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

/// Whom the request is for (RFC 9112 §3.2.2, §3.3).
fn host(request: &Request) -> Option<HostName> {
    let target = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let header = || request.headers().get(header::HOST)?.to_str().ok();
    target.or_else(header).and_then(HostName::read)
}

/// # Errors
/// It is there twice.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first) }
}
