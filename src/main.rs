//! The life of the process.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anteroom::app::lockup;
use anteroom::app::service::{Service, providers};
use anteroom::check::{Row, render};
use anteroom::cli::{Cli, Command, ConfigFile, Keys};
use anteroom::clock::SystemClock;
use anteroom::config::{Config, StoreSettings, environment};
use anteroom::keys::CallerKey;
use anteroom::shutdown::{Shutdown, Signals};
use anteroom::store::seal::{self, Keyring};
use anteroom::store::sqlite;
use anteroom::{healthcheck, http, login, telemetry};
use clap::Parser;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;
use tracing::error;

/// Keeps what lives long apart from what does not, so that a waiting sign-in costs what it holds and not twice as much.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Memory that is free goes back to the system after a second, by a thread of its own, so also while nothing happens. What is kept
/// of each block for ever, and what threads keep for themselves, is little: else a million sign-ins would leave a trace.
///
/// SAFETY: jemalloc reads this symbol when it starts, as a pointer to text that ends in a zero byte, and nobody else has it.
#[unsafe(export_name = "_rjem_malloc_conf")]
static ALLOCATOR_SETTINGS: &[u8; 106] =
    b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,slab_sizes:1-256:4,tcache_nslots_small_max:48\0";

/// What was asked for did not happen.
const FAILURE: u8 = 1;
/// What was asked for makes no sense.
const USAGE: u8 = 2;
/// A minute, in all, until a process in which nothing runs ends itself.
const LOCKUP_SLICE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let telemetry = match telemetry::init(cli.log.format, &cli.log.filter) {
        Ok(telemetry) => telemetry,
        Err(error) => return refuse(USAGE, error),
    };
    http::name_panics();
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(FAILURE, format_args!("threads cannot be started: {error}")),
    };
    let exit = runtime.block_on(run(cli.command));
    // Dropping it would wait for name look-ups, which can take longer than we may take to stop.
    runtime.shutdown_background();
    drop(telemetry);
    exit
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(file) => match load(&file) {
            Ok(config) => match Service::start(config, SystemClock::start()).await {
                Ok(service) => serve(service).await,
                Err(error) => refuse(FAILURE, error),
            },
            Err(exit) => exit,
        },
        #[cfg(feature = "demo")]
        Command::Demo(demo) => match anteroom::app::demo::start(demo.port, demo.provider_port, SystemClock::start()).await {
            Ok(demo) => {
                tell(&demo);
                serve(demo.service).await
            }
            Err(error) => refuse(FAILURE, error),
        },
        Command::Login(options) => match login::run(&options, SystemClock::start()).await {
            Ok(is_signed_in) => ExitCode::from(if is_signed_in { 0 } else { FAILURE }),
            Err(line) => refuse(USAGE, line),
        },
        Command::Check(file) => match load(&file) {
            Ok(config) => check(&config).await,
            Err(exit) => exit,
        },
        Command::Backup(args) => match load(&args.config) {
            Ok(config) => backup(&config, &args.file).await,
            Err(exit) => exit,
        },
        Command::Keys(Keys::Caller { name }) => match CallerKey::generate(name) {
            Ok(key) => match write!(io::stdout(), "{key}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => refuse(FAILURE, format_args!("the key could not be shown: {error}")),
            },
            Err(error) => refuse(FAILURE, format_args!("no key can be made: {error}")),
        },
        Command::Keys(Keys::New) => match seal::new_file() {
            Ok(text) => match io::stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => refuse(FAILURE, format_args!("the key file could not be written: {error}")),
            },
            Err(error) => refuse(FAILURE, format_args!("no key can be made: {error}")),
        },
        Command::Keys(Keys::Rotate(file)) => match load(&file) {
            Ok(config) => rotate(&config),
            Err(exit) => exit,
        },
        Command::Healthcheck(args) => {
            let url = match args.url {
                Some(url) => Ok(url),
                None => match load(&args.config) {
                    Ok(config) => healthcheck::url_of(config.listen),
                    Err(exit) => return exit,
                },
            };
            match url {
                Ok(url) => healthcheck::ask(url).await.map_or_else(|line| refuse(FAILURE, line), |()| ExitCode::SUCCESS),
                Err(line) => refuse(USAGE, line),
            }
        }
    }
}

async fn serve(service: Service) -> ExitCode {
    let (shutdown, tasks) = (Shutdown::default(), TaskTracker::new());
    match Signals::listen() {
        Ok(signals) => tasks.spawn(shutdown.clone().obey(signals)),
        Err(error) => return refuse(FAILURE, format_args!("signals cannot be caught: {error}")),
    };
    match service.address() {
        Ok(address) => tell(format_args!("listening on http://{address}")),
        Err(error) => return refuse(FAILURE, format_args!("the address is unknown: {error}")),
    }
    if let Some(address) = service.admin_address() {
        tell(format_args!("metrics on http://{address}/metrics"));
    }
    if let Err(error) = lockup::guard(service.app().rounds(), LOCKUP_SLICE, FAILURE) {
        return refuse(FAILURE, format_args!("a thread cannot be started: {error}"));
    }
    match service.run(shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // By now nobody may read stderr any more, and whoever writes there directly could wait for ever.
            error!("{error}");
            ExitCode::from(FAILURE)
        }
    }
}

async fn check(config: &Config) -> ExitCode {
    for warning in &config.warnings {
        tell(format_args!("warning: {warning}"));
    }
    let providers = match providers(&config.providers, &SystemClock::start()) {
        Ok(providers) => providers,
        Err(error) => return refuse(FAILURE, error),
    };
    let mut rows = Vec::new();
    for (settings, provider) in providers {
        let discovered = match settings.is_discoverable() {
            true => provider.discovery().look_up().await.map(Some).map_err(|problem| problem.to_string()),
            false => Ok(None),
        };
        rows.push(Row::new(&settings, discovered));
    }
    let store = match &config.store {
        StoreSettings::Sqlite { path, .. } => sqlite::mount::warning(path),
        StoreSettings::Postgres { .. } | StoreSettings::Memory => None,
    };
    // Not print!, which panics when nobody reads on: `anteroom check | head -1`.
    let _ = io::stdout().write_all(render(&rows, store.as_deref()).as_bytes());
    if rows.iter().all(Row::is_usable) { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
}

async fn backup(config: &Config, file: &Path) -> ExitCode {
    let (path, key_file) = match &config.store {
        StoreSettings::Sqlite { path, key_file } => (path, key_file),
        StoreSettings::Postgres { .. } => {
            return refuse(USAGE, "store.url: back up a PostgreSQL database with pg_dump, and the key file too");
        }
        StoreSettings::Memory => return refuse(USAGE, "store.url: nothing is stored, so there is nothing to back up"),
    };
    match sqlite::backup(path, file).await {
        Ok(sessions) => {
            let (file, key_file) = (file.display(), key_file.display());
            tell(format_args!("{sessions} sign-ins copied to {file}; only {key_file} opens them: back that up too, in another place"));
            ExitCode::SUCCESS
        }
        Err(error) => refuse(FAILURE, error),
    }
}

fn rotate(config: &Config) -> ExitCode {
    let Some(key_file) = config.store.key_file() else {
        return refuse(USAGE, "store.url: nothing is stored, so there are no keys");
    };
    match Keyring::rotate(key_file) {
        Ok(id) => {
            eprintln!("key {id} added to {}; it seals from the next start on", key_file.display());
            ExitCode::SUCCESS
        }
        Err(error) => refuse(FAILURE, error),
    }
}

fn load(file: &ConfigFile) -> Result<Config, ExitCode> {
    Config::load(file.path(), environment()).map_err(|errors| refuse(USAGE, errors))
}

fn refuse(code: u8, why: impl Display) -> ExitCode {
    tell(why);
    ExitCode::from(code)
}

/// Not eprintln!, which panics when stderr is closed, and would end a service that is well.
fn tell(what: impl Display) {
    let _ = writeln!(io::stderr(), "{}", what.to_string().trim_end());
}
