//! Generates the client of the part of containerd's API that is used, and the
//! messages of kubelet's, without a `protoc` binary.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");
    const SERVICES: [&str; 14] = [
        "types.proto",
        "process.proto",
        "version.proto",
        "containers.proto",
        "tasks.proto",
        "events.proto",
        "task_events.proto",
        "images.proto",
        "content.proto",
        "snapshots.proto",
        "diff.proto",
        "leases.proto",
        "namespaces.proto",
        "runc.proto",
    ];
    let definitions = protox::compile(SERVICES, ["proto/containerd"])
        .expect("the definitions under proto/containerd are well-formed");
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .include_file("containerd.rs")
        .compile_fds(definitions)
        .expect("containerd's client code can be written to OUT_DIR");

    let definitions = protox::compile(["runtime.proto"], ["proto/cri"])
        .expect("the definitions under proto/cri are well-formed");
    tonic_prost_build::configure()
        .include_file("cri.rs")
        .compile_fds(definitions)
        .expect("the CRI's messages can be written to OUT_DIR");
}
