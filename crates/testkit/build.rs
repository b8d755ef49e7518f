//! Compiles the server stubs of `proto/cri.proto` over the messages of `kubelet-api`; client stubs too, for this crate's own tests.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/cri.proto");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    println!("cargo::rerun-if-changed={proto}");
    // Default stubs: what the stand-in does not serve answers UNIMPLEMENTED without a line of ours.
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .extern_path(".runtime.v1", "::kubelet_api::runtime::v1")
        .compile_fds(protox::compile([proto], [folder])?)?;
    Ok(())
}
