//! The pool in other clothes: plain closures, and pools that borrow from the stack.

#[path = "../common/mod.rs"]
mod common;

mod closures;
mod scoped;
