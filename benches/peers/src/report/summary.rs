//! A page with the machine, the aims, what the pool loses, and all tables.

use super::{aims, best_of, divided, figures, is_ours, machine, relatives, rows, short, table};
use crate::cases::Family;
use crate::figure::Figure;
use crate::options::Options;
use crate::rounds::{CaseResult, Row};

/// A difference below this is noise.
const NOISE: f64 = 1.1;

pub(super) fn text(results: &[CaseResult], options: &Options) -> String {
    let tables: String = results.iter().map(table).collect();
    format!(
        "# The pool beside its peers\n\n\
         Written by `cargo bench --manifest-path benches/peers/Cargo.toml`: medians of {} \
         runs. {}\n\n\
         ## Aims\n\n\
         What this pool is meant to reach, and did or did not in these runs. \"Within noise\" is where \
         the runs of the two that are compared overlap: in other runs it may be the other way \
         round.\n\n{}\n\
         ## Where the pool loses\n\n\
         By a tenth or more to the best of the others that get their jobs in the same way, the worst \
         first: first where jobs are submitted one by one, then where all of them are known \
         beforehand.\n\n{}\n\
         ## All figures\n\n```text{tables}```\n",
        options.runs,
        machine::text(),
        aims::table(results),
        losses(results)
    )
}

struct Loss<'a> {
    times: f64,
    case: &'a str,
    ours: &'a Row,
    best: &'a Row,
}

fn losses(results: &[CaseResult]) -> String {
    let losses = |family| {
        let mut losses: Vec<_> = results
            .iter()
            .flat_map(|result| losses_of(result, family))
            .collect();
        losses.sort_by(|a, b| b.times.total_cmp(&a.times));
        losses
    };
    let mut text = String::from(
        "| case | figure | pool | best other | times | |\n|---|---|---|---|---|---|\n",
    );
    let families = [Family::OneByOne, Family::Beforehand];
    for loss in families.into_iter().flat_map(losses) {
        text += &format!(
            "| {} | {}, {} | {}: {} | {}: {} | {} | {} |\n",
            loss.case,
            loss.ours.figure,
            loss.ours.unit,
            loss.ours.contender,
            short(loss.ours.median()),
            loss.best.contender,
            short(loss.best.median()),
            short(loss.times),
            if overlap(loss.ours, loss.best) {
                "within noise"
            } else {
                ""
            },
        );
    }
    text
}

fn losses_of(result: &CaseResult, family: Family) -> Vec<Loss<'_>> {
    let mut losses = Vec::new();
    for figure in figures(result) {
        let ours = rows(result, figure)
            .filter(|row| is_ours(row.contender) && Family::of(row.contender) == family);
        let Some(ours) = best_of(ours) else { continue };
        let Some(best) = best_of(relatives(result, ours)) else {
            continue;
        };
        let Some(ratio) = divided(ours, best) else {
            continue;
        };
        let less_is_better = ours.unit != Figure::EFFICIENCY;
        let times = if less_is_better { ratio } else { 1.0 / ratio };
        if times >= NOISE {
            let case = &result.case.name;
            losses.push(Loss {
                times,
                case,
                ours,
                best,
            });
        }
    }
    losses
}

/// Do the runs of the two have values in common?
pub(super) fn overlap(a: &Row, b: &Row) -> bool {
    a.least() <= b.most() && b.least() <= a.most()
}
