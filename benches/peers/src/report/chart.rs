//! A chart of the times per job: a panel for each case, a bar for each contender.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{is_ours, rows, short};
use crate::rounds::{CaseResult, Row};

const COLUMNS: usize = 3;
const PANEL: (u32, u32) = (350, 245);
const HEADING: u32 = 30;
const MARGIN: i32 = 14;
/// Where the bars begin, right of the names.
const NAMES: i32 = 140;
const BAR: i32 = 16;
const PITCH: i32 = 22;
/// The longest bar's end: the rest is for its value.
const LONGEST: i32 = 290;

const OURS: RGBColor = RGBColor(200, 80, 30);
const OTHERS: RGBColor = RGBColor(140, 160, 180);
const INK: RGBColor = RGBColor(40, 40, 40);

type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// The cases that have a time per job, in their order, as SVG.
pub(super) fn text(results: &[CaseResult]) -> io::Result<String> {
    let mut text = String::new();
    draw(results, &mut text).map_err(io::Error::other)?;
    Ok(text)
}

fn draw(results: &[CaseResult], text: &mut String) -> Drawn {
    let panels: Vec<_> = results
        .iter()
        .map(|result| (result.case.name.as_str(), bars(result)))
        .filter(|(name, bars)| !bars.is_empty() && !name.starts_with("extras"))
        .collect();
    let height = HEADING + PANEL.1 * panels.len().div_ceil(COLUMNS).max(1) as u32;
    let size = (PANEL.0 * COLUMNS as u32, height);
    let area = SVGBackend::with_string(text, size).into_drawing_area();
    area.fill(&WHITE)?;
    let heading = "Nanoseconds per empty job, medians: shorter is better";
    area.draw(&Text::new(heading, (MARGIN, MARGIN / 2), font(20)))?;
    for (place, (name, bars)) in panels.iter().enumerate() {
        let corner = (
            (place % COLUMNS) as i32 * PANEL.0 as i32,
            (HEADING + (place / COLUMNS) as u32 * PANEL.1) as i32,
        );
        panel(&area, corner, name, bars)?;
    }
    area.present()
}

/// Best first.
fn bars(result: &CaseResult) -> Vec<&Row> {
    let mut bars: Vec<_> = rows(result, "time")
        .filter(|row| row.unit == "ns per job")
        .collect();
    bars.sort_by(|a, b| a.median().total_cmp(&b.median()));
    bars
}

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    (left, top): (i32, i32),
    name: &str,
    bars: &[&Row],
) -> Drawn {
    area.draw(&Text::new(name, (left + MARGIN, top + MARGIN), font(18)))?;
    let most = bars.iter().map(|bar| bar.median()).fold(0.0, f64::max);
    let beside = |horizontal| font(16).pos(Pos::new(horizontal, VPos::Center));
    for (place, bar) in bars.iter().enumerate() {
        let above = top + MARGIN + 26 + place as i32 * PITCH;
        let middle = above + BAR / 2;
        let begin = left + NAMES + MARGIN;
        let length = f64::from(LONGEST - NAMES - MARGIN) * bar.median() / most;
        let end = begin + (length as i32).max(1);
        let color = if is_ours(bar.contender) { OURS } else { OTHERS };
        let corners = [(begin, above), (end, above + BAR)];
        area.draw(&Rectangle::new(corners, color.filled()))?;
        let name = Text::new(bar.contender, (begin - 6, middle), beside(HPos::Right));
        area.draw(&name)?;
        let value = short(bar.median());
        area.draw(&Text::new(value, (end + 5, middle), beside(HPos::Left)))?;
    }
    Ok(())
}
