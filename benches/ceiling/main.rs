//! What Anteroom does at scale, as ratios to a ceiling that is measured in the same run, on the same machine, under the same
//! sharing of its cores. `cargo bench` prints one table; `cargo bench -- --json FILE` writes it too, `--full` takes the large
//! sizes, and words choose the rows that contain them.
//!
//! The provider runs in a process of its own (this binary again), so that its memory and locks are not ours; server and load
//! share this one.

mod crashes;
mod load;
mod memory;
mod polls;
mod reads;
mod rig;
mod table;
mod writes;

use table::Table;

type Group = fn(&Options, &mut Table);

pub struct Options {
    pub full: bool,
    filter: Vec<String>,
}

impl Options {
    /// Whether the group with this name was asked for.
    fn wants(&self, group: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|word| group.contains(word.as_str()))
    }
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench").peekable();
    if args.peek().is_some_and(|arg| arg == "--provider") {
        return rig::provide(args.nth(1).and_then(|interval| interval.parse().ok()).unwrap_or(5));
    }
    let (mut options, mut json) = (Options { full: false, filter: Vec::new() }, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--full" => options.full = true,
            "--json" => json = args.next(),
            _ => options.filter.push(arg),
        }
    }
    // The crashes that are measured are not news.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&"on purpose") {
            tell(panic);
        }
    }));
    let mut table = Table::default();
    let groups: [(&str, Group); 5] = [
        ("reads", reads::measure),
        ("polls", polls::measure),
        ("memory", memory::measure),
        ("crashes", crashes::measure),
        ("writes", writes::measure),
    ];
    for (name, measure) in groups {
        if options.wants(name) {
            eprintln!("measuring {name} …");
            measure(&options, &mut table);
        }
    }
    println!("{}", table.render());
    if let Some(path) = json {
        std::fs::write(&path, table.json()).unwrap_or_else(|error| eprintln!("{path}: {error}"));
    }
}
