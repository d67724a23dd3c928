//! The rows, and how they are shown.

use serde_json::json;

use super::rate::{median, percentile};

#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    what: String,
    ours: f64,
    ceiling: Option<f64>,
    ratio: Option<Ratio>,
    unit: &'static str,
    goal: Goal,
}

/// What the rounds of ours were of the ceiling's next to them.
struct Ratio {
    median: f64,
    /// Half of the rounds lie between them.
    quartiles: [f64; 2],
}

#[derive(Clone, Copy)]
pub enum Goal {
    Ratio(f64),
    AtMost(f64),
}

impl Table {
    /// Of rounds that were taken in turns: medians, and the median of what each round of ours was of the ceiling's next to it. A
    /// machine that is quick for one minute and slow for the next makes no difference to that.
    pub fn ratio(&mut self, what: impl Into<String>, ours: &[f64], ceiling: &[f64], unit: &'static str, goal: f64) {
        let ratios: Vec<f64> = ours.iter().zip(ceiling).map(|(ours, ceiling)| ours / ceiling).collect();
        let ratio = Some(Ratio { median: median(ratios.clone()), quartiles: [0.25, 0.75].map(|share| percentile(ratios.clone(), share)) });
        let (ours, ceiling) = (median(ours.to_vec()), Some(median(ceiling.to_vec())));
        self.push(Row { what: what.into(), ours, ceiling, ratio, unit, goal: Goal::Ratio(goal) });
    }

    pub fn at_most(&mut self, what: impl Into<String>, ours: f64, unit: &'static str, goal: f64) {
        self.push(Row { what: what.into(), ours, ceiling: None, ratio: None, unit, goal: Goal::AtMost(goal) });
    }

    fn push(&mut self, row: Row) {
        eprintln!("  {}", row.cells().join("  "));
        self.0.push(row);
    }

    pub fn render(&self) -> String {
        let header = ["what", "ours", "ceiling", "ratio (quartiles)", "goal", ""].map(str::to_owned);
        let lines: Vec<_> = std::iter::once(header).chain(self.0.iter().map(Row::cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let line = |cells: &[String; 6]| {
            let padded: Vec<_> = cells.iter().enumerate().map(|(column, cell)| format!("{cell:width$}", width = width(column))).collect();
            padded.join("  ").trim_end().to_owned()
        };
        if self.0.is_empty() {
            return String::new();
        }
        let table: String = lines.iter().map(|cells| line(cells) + "\n").collect();
        format!("{} cores, shared by service, provider and load\n{table}", cores())
    }

    pub fn json(&self) -> String {
        let rows: Vec<_> = self
            .0
            .iter()
            .map(|row| {
                let Row { what, ours, ceiling, ratio, unit, goal } = row;
                let goal = match goal {
                    Goal::Ratio(least) => least,
                    Goal::AtMost(most) => most,
                };
                let (median, quartiles) = (ratio.as_ref().map(|ratio| ratio.median), ratio.as_ref().map(|ratio| ratio.quartiles));
                json!({
                    "what": what, "ours": ours, "ceiling": ceiling, "unit": unit, "ratio": median, "quartiles": quartiles,
                    "goal": goal, "met": row.met(),
                })
            })
            .collect();
        json!({"cores": cores(), "rows": rows}).to_string()
    }
}

impl Ratio {
    fn cell(&self) -> String {
        let Self { median, quartiles: [low, high] } = self;
        format!("{median:.2} ({low:.2} to {high:.2})")
    }
}

impl Row {
    fn met(&self) -> bool {
        match self.goal {
            Goal::Ratio(least) => self.ratio.as_ref().is_some_and(|ratio| ratio.median >= least),
            Goal::AtMost(most) => self.ours <= most,
        }
    }

    fn cells(&self) -> [String; 6] {
        let goal = match self.goal {
            Goal::Ratio(least) => format!("≥ {least:.2}"),
            Goal::AtMost(most) => format!("≤ {most} {}", self.unit),
        };
        [
            self.what.clone(),
            format!("{} {}", number(self.ours), self.unit),
            self.ceiling.map_or_else(String::new, |ceiling| format!("{} {}", number(ceiling), self.unit)),
            self.ratio.as_ref().map_or_else(String::new, Ratio::cell),
            goal,
            if self.met() { "met" } else { "missed" }.to_owned(),
        ]
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
