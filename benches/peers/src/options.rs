//! The command line.

/// What the process that compares asks of the one that runs a contender.
pub(crate) struct Order {
    pub(crate) case: String,
    pub(crate) contender: String,
    /// Rounds of arithmetic per microsecond, measured once for all.
    pub(crate) speed: f64,
}

pub(crate) struct Options {
    pub(crate) smoke: bool,
    pub(crate) runs: usize,
    word: Option<String>,
    /// Only in the processes that run a contender.
    pub(crate) order: Option<Order>,
}

impl Options {
    /// # Panics
    /// If an argument lacks its value, or the value makes no sense.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let mut options = Options {
            smoke: false,
            runs: 7,
            word: None,
            order: None,
        };
        let (mut case, mut contender, mut speed) = (None, None, 0.0);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} what?"));
            match arg.as_str() {
                "--smoke" | "--test" => options.smoke = true,
                "--runs" => options.runs = value().parse().expect("--runs NUMBER"),
                "--case" => case = Some(value()),
                "--contender" => contender = Some(value()),
                "--speed" => speed = value().parse().expect("--speed NUMBER"),
                "--bench" => {} // cargo says so
                word if word.starts_with('-') => panic!("there is no option {word}"),
                _ => options.word = Some(arg),
            }
        }
        if options.smoke {
            options.runs = 1;
        }
        assert!(options.runs > 0, "--runs needs at least one");
        options.order = case.zip(contender).map(|(case, contender)| Order {
            case,
            contender,
            speed,
        });
        options
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.word.as_ref().is_none_or(|word| name.contains(word))
    }

    /// Is this what the published results are made by?
    pub(crate) fn is_full(&self) -> bool {
        !self.smoke && self.word.is_none() && self.runs >= 7
    }
}
