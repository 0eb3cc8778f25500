//! The examples, as a user meets them.

mod checksum;
#[cfg(feature = "grpc")]
mod watch;
mod words;

// Parts of the examples that other parts look for at the root.
#[allow(dead_code)]
#[path = "../../examples/common/argument.rs"]
mod argument;
#[path = "../../examples/checksum/problem.rs"]
mod problem;
#[allow(dead_code)]
#[path = "../../examples/words/text.rs"]
mod text;
#[allow(dead_code)]
#[path = "../../examples/words/vocabulary.rs"]
mod vocabulary;
#[allow(dead_code)]
#[path = "../../examples/common/workers.rs"]
mod workers;
