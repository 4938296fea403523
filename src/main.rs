//! The `harvest` binary; everything is in the library.

use harvest::capability::sandbox::local;

fn main() -> std::process::ExitCode {
    // The first processes of a sandbox are this binary too, before anything else has started.
    if std::env::args_os().nth(1).is_some_and(|first| first == local::ENTRY) {
        local::sandbox_main();
    }
    harvest::cli::main()
}
