//! Generates the control API from its definition, without a `protoc` binary.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "host")]
    host::generate();
}

#[cfg(feature = "host")]
mod host {
    pub(super) fn generate() {
        println!("cargo:rerun-if-changed=proto/refunction.proto");
        let definition = protox::compile(["proto/refunction.proto"], ["proto"])
            .expect("proto/refunction.proto is well-formed");
        tonic_prost_build::configure()
            .build_transport(false)
            // Ordered, so that what is shown or stored does not change by itself.
            .btree_map(".")
            .compile_fds(definition)
            .expect("the control API's code can be written to OUT_DIR");
    }
}
