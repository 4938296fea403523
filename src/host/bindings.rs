//! Typed host functions, generated from `wit/`. Holds no behaviour; each interface has a file of its own.
#![allow(missing_docs, unreachable_pub)] // Generated; the WIT files carry the documentation.

wasmtime::component::bindgen!({
    path: ["wit/sandbox", "wit/git", "wit/run", "wit/streams", "wit/repos", "wit/http"],
    inline: "
        package harvest:host@0.1.0;

        world host {
            import harvest:run/run@0.1.0;
            import harvest:run/ledger@0.1.0;
            import harvest:streams/streams@0.1.0;
            import harvest:sandbox/types@0.1.0;
            import harvest:sandbox/store@0.1.0;
            import harvest:sandbox/sandboxes@0.1.0;
            import harvest:sandbox/images@0.1.0;
            import harvest:sandbox/volumes@0.1.0;
            import harvest:sandbox/reveal@0.1.0;
            import harvest:git/repositories@0.1.0;
            import harvest:git/signing@0.1.0;
            import harvest:repos/registry@0.1.0;
            import harvest:http/outgoing@0.1.0;
        }
    ",
    world: "harvest:host/host",
    imports: { default: async | trappable },
    with: {
        "harvest:sandbox/types.sandbox": crate::host::handle::SandboxHandle,
        "harvest:sandbox/types.secret": crate::capability::secret::RunSecret,
        "harvest:sandbox/types.process": crate::host::handle::ProcessHandle,
        "harvest:git/repositories.repository": crate::host::handle::RepositoryHandle,
    },
    trappable_error_type: {
        "harvest:sandbox/types.error" => crate::host::handle::Failure,
    },
});
