//! `anteroom healthcheck`: one question to a running service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

const TIMEOUT: Duration = Duration::from_secs(3);
const READINESS: &str = "/readyz";

/// Asks the service at `url` whether it is ready.
///
/// # Errors
/// Why it is not, or why nobody knows: one line for people.
pub async fn ask(mut url: Url) -> Result<(), String> {
    let base = url.path().trim_end_matches('/');
    let path = format!("{}{READINESS}", base.strip_suffix(READINESS).unwrap_or(base));
    url.set_path(&path);
    let client = client(url.scheme() == "https").map_err(|_| "cannot make an HTTP client; are CA certificates installed?".to_owned())?;
    match client.get(url).send().await.map(|response| response.status()) {
        Ok(StatusCode::OK) => Ok(()),
        Ok(status) => Err(format!("not ready: the service answered {}", status.as_u16())),
        Err(error) if error.is_timeout() => Err(format!("not ready: no answer within {} s", TIMEOUT.as_secs())),
        Err(error) if error.is_connect() => Err("not ready: nobody accepts connections there".to_owned()),
        Err(_) => Err("not ready: what answered does not speak HTTP".to_owned()),
    }
}

/// Where a service with this `listen` is reached from its own machine.
///
/// # Errors
/// Port 0: only the service knows which one it got.
pub fn url_of(listen: SocketAddr) -> Result<Url, String> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let unknown = || "listen has port 0, so the port is not known here; name the service with --url".to_owned();
    if listen.port() == 0 {
        return Err(unknown());
    }
    Url::parse(&format!("http://{}", SocketAddr::new(ip, listen.port()))).map_err(|_| unknown())
}

fn client(is_https: bool) -> reqwest::Result<Client> {
    let builder = Client::builder().no_proxy().redirect(Policy::none()).connect_timeout(TIMEOUT).timeout(TIMEOUT);
    // Plain HTTP needs no root certificates, and a small image may have none.
    if is_https { builder.build() } else { builder.tls_certs_only([]).build() }
}
