//! The life of the process.

use std::fmt::Display;
use std::process::ExitCode;

use anteroom::app::service::{Service, providers};
use anteroom::check::{Row, render};
use anteroom::cli::{Cli, Command, ConfigFile, Keys};
use anteroom::clock::SystemClock;
use anteroom::config::{Config, environment};
use anteroom::shutdown::{Shutdown, Signals};
use anteroom::store::seal::Keyring;
use anteroom::{healthcheck, telemetry};
use clap::Parser;
use tokio_util::task::TaskTracker;

/// What was asked for did not happen.
const FAILURE: u8 = 1;
/// What was asked for makes no sense.
const USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::init(cli.log.format, &cli.log.filter) {
        return refuse(USAGE, error);
    }
    match cli.command {
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
                eprintln!("{demo}");
                serve(demo.service).await
            }
            Err(error) => refuse(FAILURE, error),
        },
        Command::Check(file) => match load(&file) {
            Ok(config) => check(&config).await,
            Err(exit) => exit,
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
        Ok(address) => eprintln!("listening on http://{address}"),
        Err(error) => return refuse(FAILURE, format_args!("the address is unknown: {error}")),
    }
    if let Some(address) = service.admin_address() {
        eprintln!("metrics on http://{address}/metrics");
    }
    match service.run(shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(FAILURE, error),
    }
}

async fn check(config: &Config) -> ExitCode {
    let providers = match providers(&config.providers, &SystemClock::start()) {
        Ok(providers) => providers,
        Err(error) => return refuse(FAILURE, error),
    };
    let mut rows = Vec::new();
    for (settings, provider) in providers {
        let discovered = match &settings.issuer {
            Some(_) => provider.discovery().look_up().await.map(Some).map_err(|problem| problem.to_string()),
            None => Ok(None),
        };
        rows.push(Row::new(&settings, discovered));
    }
    print!("{}", render(&rows));
    if rows.iter().all(Row::is_usable) { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
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
    eprintln!("{}", why.to_string().trim_end());
    ExitCode::from(code)
}
