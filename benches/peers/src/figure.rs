//! What a run measures, and how it gets from the contender's process to the one that compares.

use std::time::Duration;

/// One measured value. Less is better, unless the unit is [`Figure::EFFICIENCY`].
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
}

impl Figure {
    /// Of what the cores could do at best.
    pub(crate) const EFFICIENCY: &str = "% of ideal";

    pub(crate) fn new(name: &str, unit: &str, value: f64) -> Self {
        Figure {
            name: name.to_owned(),
            unit: unit.to_owned(),
            value,
        }
    }

    pub(crate) fn per_job(time: Duration, jobs: u64) -> Self {
        let time = time.as_nanos() as f64 / jobs as f64;
        Figure::new("time", "ns per job", time)
    }

    pub(crate) fn write(&self) {
        println!("{}\t{}\t{}", self.name, self.unit, self.value);
    }

    pub(crate) fn read(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let (name, unit, value) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Figure::new(name, unit, value.parse().ok()?))
    }
}
