//! What the pool is meant to reach, beside what it did.

use super::summary::overlap;
use super::{best_of, is_ours, rows, short};
use crate::cases::{Family, POOL};
use crate::figure::Figure;
use crate::rounds::{CaseResult, Row};

/// As Markdown; aims whose cases were not run are left out.
pub(super) fn table(results: &[CaseResult]) -> String {
    let aims = Aims(results);
    let mut lines = Vec::new();
    for workers in [2, 16, 1000] {
        lines.push(aims.ahead(&format!("burst, {workers} workers"), "time"));
    }
    lines.push(aims.level("burst, 2 workers", &["bounded channel"]));
    for workers in [2, 16, 1000] {
        lines.push(aims.ahead(&format!("round trip, {workers} workers"), "time"));
    }
    let channels = ["bounded channel", "unbounded channel"];
    lines.push(aims.level("round trip, 2 workers", &channels));
    lines.push(aims.idle_workers_in_the_way());
    for workers in [2, 16, 1000] {
        let case = format!("8 blocking submitters, {workers} workers");
        lines.push(aims.ahead(&case, "time"));
    }
    lines.push(aims.number("results in order, 2 workers", "time", "pool map", 5.0));
    for workers in [2, 16] {
        let case = format!("results in order, {workers} workers");
        lines.push(aims.ahead_as("pool handles", &case, "time"));
    }
    for (micros, percent) in [(1, 90.0), (10, 97.0), (100, 99.0), (10_000, 99.0)] {
        let case = format!("jobs of {micros} µs, 2 workers");
        for contender in [POOL, crate::cases::FOR_EACH] {
            lines.push(aims.number(&case, "efficiency", contender, percent));
        }
    }
    for workers in [2, 16] {
        let case = format!("skew, arriving, {workers} workers");
        lines.push(aims.ahead(&case, "wait p99"));
        for load in [30, 70, 95] {
            let case = format!("open loop at {load} %, {workers} workers");
            lines.push(aims.ahead(&case, "latency p99"));
        }
    }
    for contender in ["pool, meter", "pool, meter, timings"] {
        lines.push(aims.extra("extras, burst, 2 workers", contender, 25.0));
        lines.push(aims.extra("extras, round trip, 2 workers", contender, 25.0));
    }
    let memory = "memory over the payload";
    lines.push(aims.number("memory, 2 workers", memory, POOL, 64.0));
    let handles = "memory with handles, 2 workers";
    lines.push(aims.ahead_as("pool handles", handles, memory));
    for (figure, limit) in [
        ("allocations, waited for", 1.0),
        ("allocations, burst", 0.0),
    ] {
        lines.push(aims.number("allocations, 2 workers", figure, POOL, limit));
    }
    for figure in ["start", "end"] {
        let case = "starting and ending, 1000 workers";
        lines.push(aims.number(case, figure, POOL, 100.0));
    }
    lines.push(aims.number("idle, 100 workers", "processor time", POOL, 0.0));
    let lines: String = lines.into_iter().flatten().collect();
    format!("| aim | measured | to reach | |\n|---|---|---|---|\n{lines}")
}

/// The results that the aims are held against.
struct Aims<'a>(&'a [CaseResult]);

impl<'a> Aims<'a> {
    fn case(&self, name: &str) -> Option<&'a CaseResult> {
        self.0.iter().find(|result| result.case.name == name)
    }

    fn row(&self, case: &str, figure: &str, contender: &str) -> Option<&'a Row> {
        let mut rows = rows(self.case(case)?, figure);
        rows.find(|row| row.contender == contender)
    }

    /// No pool that gets its jobs in the same way is better.
    fn ahead(&self, case: &str, figure: &str) -> Option<String> {
        self.ahead_as(POOL, case, figure)
    }

    fn ahead_as(&self, contender: &str, case: &str, figure: &str) -> Option<String> {
        let ours = self.row(case, figure, contender)?;
        let pools = rows(self.case(case)?, figure).filter(|row| {
            let channel = row.contender.ends_with("channel");
            let alike = Family::of(row.contender) == Family::of(contender);
            !is_ours(row.contender) && !channel && alike
        });
        let aim = format!("{case}, {figure}: ahead of every pool");
        Some(beside(&aim, ours, best_of(pools)?))
    }

    /// No slower than the best of these.
    fn level(&self, case: &str, others: &[&str]) -> Option<String> {
        let ours = self.row(case, "time", POOL)?;
        let others = rows(self.case(case)?, "time").filter(|row| others.contains(&row.contender));
        let aim = format!("{case}: no slower than a bare channel");
        Some(beside(&aim, ours, best_of(others)?))
    }

    fn idle_workers_in_the_way(&self) -> Option<String> {
        let few = self.row("round trip, 2 workers", "time", POOL)?;
        let many = self.row("round trip, 1000 workers", "time", POOL)?;
        let aim = "round trip, 1000 workers: at most twice what it takes with 2";
        let limit = 2.0 * few.median();
        Some(line(
            aim,
            many,
            &short(limit),
            many.median() <= limit,
            false,
        ))
    }

    fn number(&self, case: &str, figure: &str, contender: &str, limit: f64) -> Option<String> {
        let row = self.row(case, figure, contender)?;
        let (word, reached) = if row.unit == Figure::EFFICIENCY {
            ("at least", row.median() >= limit)
        } else {
            ("at most", row.median() <= limit)
        };
        let aim = format!("{case}, {contender}, {figure}");
        let limit_text = format!("{word} {}", short(limit));
        let noise = row.least() <= limit && limit <= row.most() && row.least() < row.most();
        Some(line(&aim, row, &limit_text, reached, noise))
    }

    /// What an extra adds to the plain pool's time.
    fn extra(&self, case: &str, contender: &str, limit: f64) -> Option<String> {
        let plain = self.row(case, "time", POOL)?;
        let with = self.row(case, "time", contender)?;
        let more = with.median() - plain.median();
        let measured = format!("{} more ns per job", short(more));
        let verdict = verdict(more <= limit, false);
        let limit = short(limit);
        Some(format!(
            "| {case}: {contender} | {measured} | at most {limit} | {verdict} |\n"
        ))
    }
}

fn beside(aim: &str, ours: &Row, best: &Row) -> String {
    let reached = if ours.unit == Figure::EFFICIENCY {
        ours.median() >= best.median()
    } else {
        ours.median() <= best.median()
    };
    let best_text = format!("{}: {}", best.contender, short(best.median()));
    line(aim, ours, &best_text, reached, overlap(ours, best))
}

fn line(aim: &str, row: &Row, limit: &str, reached: bool, noise: bool) -> String {
    let measured = format!("{} {}", short(row.median()), row.unit);
    let verdict = verdict(reached, noise);
    format!("| {aim} | {measured} | {limit} | {verdict} |\n")
}

fn verdict(reached: bool, noise: bool) -> &'static str {
    match (reached, noise) {
        (true, false) => "reached",
        (true, true) => "reached, within noise",
        (false, false) => "**missed**",
        (false, true) => "missed, within noise",
    }
}
