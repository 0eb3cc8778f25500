//! The last minutes as a sparkline.

use std::collections::VecDeque;

/// Columns of the sparkline.
pub(crate) const COLUMNS: usize = 60;
/// Seconds that a column stands for.
pub(crate) const COLUMN: f64 = 3.0;

/// The mean utilisation of each of the last columns, weighed by time.
#[derive(Debug)]
pub(crate) struct History {
    columns: VecDeque<Column>,
    /// Seconds from the start, up to which the columns are filled.
    filled: f64,
    /// The value since then; `None` while it is not known.
    value: Option<f64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Column {
    sum: f64,
    seconds: f64,
}

impl History {
    pub(crate) fn new() -> Self {
        History {
            columns: VecDeque::from([Column::default()]),
            filled: 0.0,
            value: None,
        }
    }

    /// From this moment (seconds from the start) on this is the value.
    pub(crate) fn set(&mut self, now: f64, value: Option<f64>) {
        self.fill(now);
        self.value = value;
    }

    /// Fills the columns up to this moment.
    pub(crate) fn fill(&mut self, now: f64) {
        while self.filled < now {
            let end = ((self.filled / COLUMN).floor() + 1.0) * COLUMN;
            let until = end.min(now);
            if let (Some(value), Some(column)) = (self.value, self.columns.back_mut()) {
                column.sum += value * (until - self.filled);
                column.seconds += until - self.filled;
            }
            self.filled = until;
            if until == end {
                self.columns.push_back(Column::default());
                if self.columns.len() > COLUMNS {
                    self.columns.pop_front();
                }
            }
        }
    }

    /// One character per column, the oldest first; a dot where nothing is known.
    pub(crate) fn line(&self) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let show = |column: &Column| match column.seconds {
            0.0 => '·',
            seconds => BARS[((column.sum / seconds * 8.0) as usize).min(7)],
        };
        self.columns.iter().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_shows_the_mean_over_time_not_over_news() {
        let mut history = History::new();
        history.set(0.0, Some(1.0));
        history.set(1.0, Some(0.0)); // one second of three at full load
        history.set(1.5, Some(0.0));
        history.set(3.0, Some(1.0));
        history.fill(5.9);
        assert_eq!(history.line(), "▃█");
    }

    #[test]
    fn what_is_not_known_is_a_dot_and_old_columns_go() {
        let mut history = History::new();
        history.set(COLUMN, Some(0.0));
        history.set(2.0 * COLUMN, None);
        history.fill(3.5 * COLUMN);
        assert_eq!(history.line(), "·▁··");
        history.fill(1e4);
        assert_eq!(history.line(), "·".repeat(COLUMNS));
    }
}
