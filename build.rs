//! Generates the messages of `proto/` with the pure-Rust parser; no `protoc` is needed.

fn main() {
    #[cfg(feature = "grpc")]
    generate();
}

#[cfg(feature = "grpc")]
fn generate() {
    println!("cargo::rerun-if-changed=proto");
    protobuf_codegen::Codegen::new()
        .pure()
        .include("proto")
        .input("proto/solpipe.proto")
        .cargo_out_dir("proto")
        .run_from_script();
}
