//! Compiles `proto/pods.proto` and `proto/story.proto`: messages, clients and servers.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    let protos = ["pods.proto", "story.proto"].map(|name| format!("{folder}/{name}"));
    for proto in &protos {
        println!("cargo::rerun-if-changed={proto}");
    }
    tonic_prost_build::configure().compile_fds(protox::compile(&protos, [folder])?)?;
    Ok(())
}
