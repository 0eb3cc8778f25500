//! What comes out: tables, a CSV file, and a chart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cases::POOL;
use crate::figure::Figure;
use crate::options::Options;
use crate::rounds::{CaseResult, Row};

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
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results")
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
fn rows<'a>(result: &'a CaseResult, figure: &'a str) -> impl Iterator<Item = &'a Row> + Clone {
    result.rows.iter().filter(move |row| row.figure == figure)
}

/// A row's median as a multiple of that of the best contender that is not ours; where all are ours,
/// of the plain pool. Infinite if that is nothing, `None` if both are.
fn ratio(result: &CaseResult, row: &Row) -> Option<f64> {
    let rows = rows(result, &row.figure);
    let others: Vec<_> = rows
        .clone()
        .filter(|other| !is_ours(other.contender) && other.contender != row.contender)
        .collect();
    let best = best_of(&others).map(Row::median);
    let plain = || {
        let mut rows = rows.clone();
        rows.find(|row| row.contender == POOL).map(Row::median)
    };
    let ratio = row.median() / best.or_else(plain)?;
    (!ratio.is_nan()).then_some(ratio)
}

fn best_of<'a>(rows: &[&'a Row]) -> Option<&'a Row> {
    let rows = rows.iter().copied();
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
