//! A page with the machine, what the pool loses, and all tables.

use super::{best_of, figures, is_ours, machine, ratio, rows, short, table};
use crate::figure::Figure;
use crate::options::Options;
use crate::rounds::CaseResult;

/// A difference below this is noise.
const NOISE: f64 = 1.1;

pub(super) fn text(results: &[CaseResult], options: &Options) -> String {
    let tables: String = results.iter().map(table).collect();
    format!(
        "# The pool beside its peers\n\n\
         Written by `cargo bench --bench peers`: medians of {} runs. {}\n\n\
         ## Where the pool loses\n\n\
         By a tenth or more to the best of the others, the worst first.\n\n{}\n\
         ## All figures\n\n```text{tables}```\n",
        options.runs,
        machine::text(),
        losses(results)
    )
}

fn losses(results: &[CaseResult]) -> String {
    let mut losses = Vec::new();
    for result in results {
        for figure in figures(result) {
            let (ours, others): (Vec<_>, Vec<_>) =
                rows(result, figure).partition(|row| is_ours(row.contender));
            let (Some(ours), Some(best)) = (best_of(&ours), best_of(&others)) else {
                continue;
            };
            let Some(ratio) = ratio(result, ours) else {
                continue;
            };
            let less_is_better = ours.unit != Figure::EFFICIENCY;
            let times = if less_is_better { ratio } else { 1.0 / ratio };
            if times >= NOISE {
                losses.push((times, &result.case.name, ours, best));
            }
        }
    }
    losses.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut text = String::from("| case | figure | pool | best other | |\n|---|---|---|---|---|\n");
    for (times, case, ours, best) in losses {
        text += &format!(
            "| {case} | {}, {} | {} | {}: {} | {} times |\n",
            ours.figure,
            ours.unit,
            short(ours.median()),
            best.contender,
            short(best.median()),
            short(times)
        );
    }
    text
}
