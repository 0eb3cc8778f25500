//! Generates the messages of `proto/` with the pure-Rust parser; no `protoc` is needed.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "grpc")]
    {
        println!("cargo::rerun-if-changed=proto");
        generate(
            "proto",
            &[
                "proto/solpipe.proto",
                "proto/relay.proto",
                "proto/grpc/health/v1/health.proto",
                "proto/grpc/reflection/v1/reflection.proto",
                "proto/xds/data/orca/v3/orca_load_report.proto",
                "proto/xds/service/orca/v3/orca.proto",
            ],
        );
        // In a folder of its own: generated files are named by the last part of the path alone.
        generate(
            "proto_v1alpha",
            &["proto/grpc/reflection/v1alpha/reflection.proto"],
        );
    }
}

#[cfg(feature = "grpc")]
fn generate(folder: &str, inputs: &[&str]) {
    protobuf_codegen::Codegen::new()
        .pure()
        .include("proto")
        .inputs(inputs)
        .cargo_out_dir(folder)
        .run_from_script();
}
