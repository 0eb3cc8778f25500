//! A table for each figure of a case.

use std::fmt::Write;

use super::{figures, ratio, ratio_in_family, rows, short};
use crate::cases::Family;
use crate::rounds::CaseResult;

/// As a person reads it in a terminal.
pub(crate) fn table(result: &CaseResult) -> String {
    let mut text = String::new();
    for figure in figures(result) {
        let mut rows = rows(result, figure).peekable();
        let Some(first) = rows.peek() else { continue };
        let heading = format!("{}: {figure}, {}", result.case.name, first.unit);
        let runs = first.values.len();
        let _ = writeln!(text, "\n{heading} (medians of {runs})");
        // With one family only, the second ratio would be the first.
        let families = [Family::OneByOne, Family::Beforehand];
        let mixed = families.iter().all(|&family| {
            let mut rows = rows.clone();
            rows.any(|row| Family::of(row.contender) == family)
        });
        let _ = write!(
            text,
            "  {:<18} {:>9} {:>9} {:>9} {:>14}",
            "", "median", "min", "max", "to best other"
        );
        let _ = writeln!(text, "{}", if mixed { "  in its family" } else { "" });
        for row in rows {
            let number = |ratio: Option<f64>| ratio.map_or("–".to_owned(), short);
            let _ = write!(
                text,
                "  {:<18} {:>9} {:>9} {:>9} {:>14}",
                row.contender,
                short(row.median()),
                short(row.least()),
                short(row.most()),
                number(ratio(result, row)),
            );
            if mixed {
                let family = Family::of(row.contender).name();
                let ratio = number(ratio_in_family(result, row));
                let _ = write!(text, " {ratio:>7} {family}");
            }
            text.push('\n');
        }
    }
    for (contender, error) in &result.failed {
        let _ = writeln!(text, "  {contender:<18} FAILED: {error}");
    }
    text
}
