//! The examples, as a user meets them.

mod checksum;
#[cfg(feature = "grpc")]
mod watch;
mod words;

// Parts of the examples that other parts look for at the root.
#[path = "../../examples/checksum/problem.rs"]
mod problem;
#[allow(dead_code)]
#[path = "../../examples/words/text.rs"]
mod text;
#[allow(dead_code)]
#[path = "../../examples/words/vocabulary.rs"]
mod vocabulary;
