//! Capacity over gRPC: the server and its clients.
#![cfg(feature = "grpc")]

#[path = "../common_grpc/mod.rs"]
mod common_grpc;
#[path = "../../examples/serve/echo.rs"]
mod echo;

mod balance;
mod client;
mod pool;
mod security;
mod services;
mod stream;
