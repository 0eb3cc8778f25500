//! The results for other programs.

use super::{ratio, ratio_in_family, rows};
use crate::cases::Family;
use crate::report::figures;
use crate::rounds::CaseResult;

pub(super) fn text(results: &[CaseResult]) -> String {
    let mut lines = vec![
        "case,workers,jobs,figure,unit,contender,runs,median,min,max,ratio_to_best_other,\
         family,ratio_in_family"
            .to_owned(),
    ];
    for result in results {
        for figure in figures(result) {
            for row in rows(result, figure) {
                let case = &result.case;
                let fields = [
                    quoted(&case.name),
                    case.workers.to_string(),
                    case.jobs.to_string(),
                    quoted(&row.figure),
                    quoted(&row.unit),
                    quoted(row.contender),
                    row.values.len().to_string(),
                    format!("{:.3}", row.median()),
                    format!("{:.3}", row.least()),
                    format!("{:.3}", row.most()),
                    number(ratio(result, row)),
                    quoted(Family::of(row.contender).name()),
                    number(ratio_in_family(result, row)),
                ];
                lines.push(fields.join(","));
            }
        }
    }
    lines.join("\n") + "\n"
}

fn number(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}"))
}

/// No name has a quotation mark in it.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}
