//! The local sandbox provider: the contract of all providers, as the user who runs the tests and, where that is root, as an
//! ordinary user too; then what only this provider promises.

mod contract {
    pub(crate) mod sandbox;
}

use contract::sandbox::{open, output, sh, spec};
use harvest::capability::sandbox::SandboxProvider;
use harvest::capability::sandbox::local::{LocalProvider, Upstream};
use std::path::{Path, PathBuf};

/// A provider with a home of its own, deleted with it.
struct Local {
    provider: LocalProvider,
    home: tempfile::TempDir,
}

impl std::ops::Deref for Local {
    type Target = LocalProvider;

    fn deref(&self) -> &LocalProvider {
        &self.provider
    }
}

fn launcher() -> PathBuf {
    std::env::var_os("HARVEST_TEST_LAUNCHER")
        .map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), PathBuf::from)
}

fn local() -> Local {
    with_upstreams(Vec::new())
}

fn with_upstreams(upstreams: Vec<Upstream>) -> Local {
    let home = tempfile::tempdir().expect("a directory");
    let provider = LocalProvider::new(home.path(), launcher(), upstreams).expect("a provider");
    Local { provider, home }
}

mod keeps {
    use super::local;

    crate::sandbox_contract! {
        local();
        streams_are_kept_apart,
        a_signal_is_told_from_a_code,
        signals_reach_the_command,
        stdin_is_delivered_whole_and_ends,
        sixty_four_megabytes_pass_unchanged_both_ways,
        what_cannot_start_says_why,
        environments_add_up,
        the_working_directory_is_made_and_used,
        kill_ends_the_whole_tree_and_nothing_else,
        dropping_a_command_kills_its_tree,
        a_command_that_leaves_daemons_still_ends,
        many_commands_run_at_once,
        without_network_there_is_only_loopback,
        terminate_ends_everything_and_keeps_the_files,
        ids_that_could_be_paths_are_refused,
        an_image_that_does_not_exist_is_named,
        files_are_read_and_written_inside,
        files_and_volumes_survive_and_are_shared,
        volumes_swap_only_what_was_read,
        planted_links_are_not_followed,
        images_are_built_once_per_step,
        equal_images_built_at_once_agree,
        a_snapshot_holds_the_files,
    }
}
