//! Finds the addresses of a provider's hosts: in the hosts file, then by DNS as `resolv.conf` says.
//!
//! A look-up is a task, not a thread as the system's are, and each provider has its own: a name server that says nothing delays
//! nobody else. What was answered is kept for as long as its TTL says, but for half a minute at most; so is what the two files say.
//! A connection that fails ends that at once, for the provider may have moved.

use core::future::Future;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::pin::Pin;
use core::time::Duration;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::select_ok;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// Less than a connection may take, of which the look-up is a part: see [`Patience`](super::exchange::Patience).
const LIMIT: Duration = Duration::from_millis(4500);
/// How long each server has before the next one is asked too, and a host's IPv6 addresses once the others are known.
const HEAD_START: Duration = Duration::from_secs(1);
const KEPT: Duration = Duration::from_secs(30);
/// A host that is being set up is looked for again soon.
const KEPT_ABSENT: Duration = Duration::from_secs(1);
/// As the system's own resolver: more are not asked.
const MAX_SERVERS: usize = 3;
/// A provider has few hosts.
const MAX_ANSWERS: u64 = 64;

/// Where it is written who is asked.
#[derive(Clone, Debug)]
pub struct Sources {
    pub resolv_conf: PathBuf,
    pub hosts: PathBuf,
    pub port: u16,
}

impl Default for Sources {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), port: 53 }
    }
}

/// Nobody knows the name, or nobody said so in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub struct NotFound;

/// The resolver of one provider.
#[derive(Default)]
pub struct Names {
    sources: Sources,
    kept: Mutex<Option<Arc<Directory>>>,
}

/// What the two files say, and what the servers answered since they were read.
struct Directory {
    /// By the runtime's own time, as the TTLs that the resolvers keep are: no session depends on it.
    read_at: Instant,
    hosts: Hosts,
    /// One for each server: a single one with all of them would ask them in any order, and some know names that others deny.
    servers: Vec<TokioResolver>,
}

/// An answer that settles it.
type Settled = Result<Vec<IpAddr>, NotFound>;
type Asking<'a> = Pin<Box<dyn Future<Output = Result<Settled, NetError>> + Send + 'a>>;

impl Names {
    pub fn new(sources: Sources) -> Self {
        Self { sources, kept: Mutex::default() }
    }

    /// # Errors
    /// [`NotFound`].
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NotFound> {
        let name = Name::from_str_relaxed(host).map_err(|_| NotFound)?;
        let directory = self.directory();
        if let Some(addresses) = directory.written(&name).or_else(|| loopback(host)) {
            return Ok(addresses);
        }
        timeout(LIMIT, directory.ask(&name)).await.unwrap_or(Err(NotFound))
    }

    /// What is known is no longer believed.
    pub fn forget(&self) {
        *self.kept.lock() = None;
    }

    fn directory(&self) -> Arc<Directory> {
        let mut kept = self.kept.lock();
        match &*kept {
            Some(directory) if directory.read_at.elapsed() < KEPT => Arc::clone(directory),
            _ => Arc::clone(kept.insert(Arc::new(Directory::read(&self.sources)))),
        }
    }
}

impl Directory {
    fn read(sources: &Sources) -> Self {
        let mut hosts = Hosts::default();
        // A line of another encoding must not hide those after it.
        let text = fs::read(&sources.hosts).unwrap_or_default();
        let _ = hosts.read_hosts_conf(String::from_utf8_lossy(&text).as_bytes());
        let (mut config, mut options) = configuration(&fs::read(&sources.resolv_conf).unwrap_or_default());
        if !config.search.is_empty() {
            // It is there for whoever names nothing to search.
            config.domain = None;
        }
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        options.cache_size = MAX_ANSWERS;
        options.positive_max_ttl = Some(KEPT);
        options.negative_max_ttl = Some(KEPT_ABSENT);
        options.timeout = LIMIT;
        let mut servers = config.name_servers.split_off(0);
        servers.truncate(MAX_SERVERS);
        let resolver = |mut server: NameServerConfig| {
            server.connections.iter_mut().for_each(|connection| connection.port = sources.port);
            let config = ResolverConfig::from_parts(config.domain.clone(), config.search.clone(), vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options.clone()).build().ok()
        };
        Self { read_at: Instant::now(), hosts, servers: servers.into_iter().filter_map(resolver).collect() }
    }

    /// What the hosts file says: then no server is asked, not even for addresses of the other kind.
    fn written(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let kinds = [RecordType::AAAA, RecordType::A];
        let found = kinds.into_iter().filter_map(|kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)));
        let addresses: Vec<IpAddr> =
            found.flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()).collect();
        Some(addresses).filter(|addresses| !addresses.is_empty())
    }

    /// In the order of the file. Who says that there is no such name is believed; who fails is not.
    async fn ask(&self, name: &Name) -> Settled {
        if self.servers.is_empty() {
            return Err(NotFound);
        }
        let asking = self.servers.iter().zip(0..).flat_map(|(server, nth)| {
            let start = HEAD_START * nth;
            let all: Asking<'_> = Box::pin(async move {
                sleep(start).await;
                settled(server.lookup_ip(name.clone()).await.map(|found| found.iter().collect()))
            });
            // Some servers say nothing where they know only the one kind.
            let without_v6: Asking<'_> = Box::pin(async move {
                sleep(start + HEAD_START).await;
                let found = server.ipv4_lookup(name.clone()).await?;
                Ok(Ok(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()))
            });
            [all, without_v6]
        });
        select_ok(asking).await.map_or(Err(NotFound), |(settled, _)| settled)
    }
}

fn settled(answer: Result<Vec<IpAddr>, NetError>) -> Result<Settled, NetError> {
    match answer {
        Ok(addresses) => Ok(Ok(addresses)),
        Err(error) if error.is_no_records_found() => Ok(Err(NotFound)),
        Err(error) => Err(error),
    }
}

/// RFC 6761 §6.3: no server is asked.
fn loopback(host: &str) -> Option<Vec<IpAddr>> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (host == "localhost" || host.ends_with(".localhost")).then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

/// As the system's own resolver: who names no server has one on this machine. Where a line makes no sense, the servers still count.
fn configuration(resolv_conf: &[u8]) -> (ResolverConfig, ResolverOpts) {
    let text = String::from_utf8_lossy(resolv_conf);
    let servers = || text.lines().filter(|line| line.starts_with("nameserver")).collect::<Vec<_>>().join("\n");
    parse_resolv_conf(text.as_bytes()).or_else(|_| parse_resolv_conf(servers())).unwrap_or_else(|_| {
        let own = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_parts(None, Vec::new(), vec![own]), ResolverOpts::default())
    })
}
