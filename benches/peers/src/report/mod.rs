//! What comes out: tables, a CSV file, and a chart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cases::{Family, POOL};
use crate::figure::Figure;
use crate::options::Options;
use crate::rounds::{CaseResult, Row};

mod aims;
mod chart;
mod csv;
mod machine;
mod summary;
mod tables;

pub(crate) use tables::table;

/// The published results come from full runs without failures; others are written where cargo keeps
/// its own.
pub(crate) fn write(results: &[CaseResult], options: &Options) -> io::Result<()> {
    let failed = results.iter().any(|result| !result.failed.is_empty());
    let folder = if options.is_full() && !failed {
        Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("results")
    } else {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
    };
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("peers.csv"), csv::text(results))?;
    fs::write(folder.join("peers.md"), summary::text(results, options))?;
    fs::write(folder.join("peers.svg"), chart::text(results)?)?;
    println!("\nwritten to {}", folder.display());
    Ok(())
}

fn is_ours(contender: &str) -> bool {
    contender.starts_with(POOL)
}

/// The names of a case's figures, in order.
fn figures(result: &CaseResult) -> Vec<&str> {
    let mut names = Vec::new();
    for row in &result.rows {
        if !names.contains(&row.figure.as_str()) {
            names.push(&row.figure);
        }
    }
    names
}

/// A figure's value for all contenders.
fn rows<'a>(result: &'a CaseResult, figure: &str) -> impl Iterator<Item = &'a Row> + Clone {
    result.rows.iter().filter(move |row| row.figure == figure)
}

/// A row's median as a multiple of that of the best contender that is not ours; where all are ours,
/// of the plain pool. Infinite if that is nothing, `None` if both are.
fn ratio(result: &CaseResult, row: &Row) -> Option<f64> {
    let mut all = rows(result, &row.figure);
    let best = best_of(others(result, row));
    let best = best.or_else(|| all.find(|row| row.contender == POOL));
    divided(row, best?)
}

/// The same, of the contenders that are of the row's family. `None` if there is none.
fn ratio_in_family(result: &CaseResult, row: &Row) -> Option<f64> {
    divided(row, best_of(relatives(result, row))?)
}

fn divided(row: &Row, by: &Row) -> Option<f64> {
    let ratio = row.median() / by.median();
    (!ratio.is_nan()).then_some(ratio)
}

/// The contenders that are not ours, nor this one.
fn others<'a>(result: &'a CaseResult, row: &'a Row) -> impl Iterator<Item = &'a Row> {
    rows(result, &row.figure)
        .filter(|other| !is_ours(other.contender) && other.contender != row.contender)
}

/// Those of them that get their jobs in the same way.
fn relatives<'a>(result: &'a CaseResult, row: &'a Row) -> impl Iterator<Item = &'a Row> {
    let family = Family::of(row.contender);
    others(result, row).filter(move |other| Family::of(other.contender) == family)
}

fn best_of<'a>(rows: impl Iterator<Item = &'a Row>) -> Option<&'a Row> {
    rows.min_by(|a, b| {
        let order = a.median().total_cmp(&b.median());
        if a.unit == Figure::EFFICIENCY {
            order.reverse()
        } else {
            order
        }
    })
}

/// A number with as many digits as it deserves.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        f64::INFINITY => "∞".to_owned(),
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
