//! A table for each figure of a case.

use std::fmt::Write;

use super::{figures, ratio, rows, short};
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
        let _ = writeln!(
            text,
            "  {:<18} {:>9} {:>9} {:>9} {:>14}",
            "", "median", "min", "max", "to best other"
        );
        for row in rows {
            let _ = writeln!(
                text,
                "  {:<18} {:>9} {:>9} {:>9} {:>14}",
                row.contender,
                short(row.median()),
                short(row.least()),
                short(row.most()),
                ratio(result, row).map_or("–".to_owned(), short),
            );
        }
    }
    for (contender, error) in &result.failed {
        let _ = writeln!(text, "  {contender:<18} FAILED: {error}");
    }
    text
}
