//! What Anteroom does at scale, as ratios to a ceiling that is measured in the same run, on the same machine, under the same
//! sharing of its cores.
//!
//! `cargo bench` prints one table. `cargo bench -- WORD` takes the groups whose names contain a word, `--full` the large sizes,
//! `--json FILE` writes the table too, and `--churn MINUTES` begins and cancels sign-ins for that long.
//!
//! Every contestant has a process of its own: the service is the program as it is shipped, the provider and the bare servers are
//! this binary again, and the load comes from here. What needs to see inside, the moment of a verdict or of a panic, runs here.

mod bare;
mod begins;
mod child;
mod churn;
mod claims;
mod client;
mod crashes;
mod fill;
mod inside;
mod memory;
mod polls;
mod punctuality;
mod rate;
mod reads;
mod sample;
mod start;
mod table;
mod wakeups;

use tikv_jemallocator::Jemalloc;
use tokio::runtime::Runtime;

use table::Table;

/// The service's, so that no contestant is quicker for its allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

type Group = fn(&Options, &mut Table);

#[derive(Default)]
pub struct Options {
    pub full: bool,
    /// Minutes.
    pub churn: Option<f64>,
    json: Option<String>,
    words: Vec<String>,
}

const GROUPS: [(&str, Group); 10] = [
    ("reads", reads::measure),
    ("wakeups", wakeups::measure),
    ("polls", polls::measure),
    ("punctuality", punctuality::measure),
    ("memory", memory::measure),
    ("begins", begins::measure),
    ("claims", claims::measure),
    ("crashes", crashes::measure),
    ("start", start::measure),
    ("churn", churn::measure),
];

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Self {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--full" => options.full = true,
                "--json" => options.json = args.next(),
                "--churn" => options.churn = args.next().and_then(|minutes| minutes.parse().ok()),
                _ => options.words.push(arg),
            }
        }
        options
    }

    /// Whether the group with this name was asked for.
    fn wants(&self, group: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| group.contains(word.as_str()))
    }
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("--provider") => child::provide(&args[1..]),
        Some("--bare") => bare::answer(),
        _ => measure(&Options::read(args.into_iter())),
    }
}

fn measure(options: &Options) {
    // The crashes that are measured are not news.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&"on purpose") {
            tell(panic);
        }
    }));
    let mut table = Table::default();
    for (name, measure) in GROUPS.into_iter().filter(|(name, _)| options.wants(name)) {
        eprintln!("measuring {name} …");
        measure(options, &mut table);
    }
    print!("{}", table.render());
    if let Some(path) = &options.json {
        std::fs::write(path, table.json()).unwrap_or_else(|error| eprintln!("{path}: {error}"));
    }
}
