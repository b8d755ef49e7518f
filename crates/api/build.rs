//! Compiles `proto/cri.proto` to message types (no client, no server: those live where they are called or served).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/cri.proto");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    println!("cargo::rerun-if-changed={proto}");
    // BTreeMap: labels and annotations come out in one order, so plans and traces repeat.
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .btree_map(".")
        .compile_fds(protox::compile([proto], [folder])?)?;
    Ok(())
}
