//! Compiles the client stubs of `proto/cri.proto` over the messages of `kubelet-api`: the tests ask the runtime themselves.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/cri.proto");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    println!("cargo::rerun-if-changed={proto}");
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".runtime.v1", "::kubelet_api::runtime::v1")
        .compile_fds(protox::compile([proto], [folder])?)?;
    Ok(())
}
