//! The server that speaks Modal's API, judged by Modal's own Python client, whose version and dependencies are pinned
//! with the hashes of their archives.

mod client;
mod differences;
mod judge;
mod ours;
mod sent;

use judge::judged;

/// One test per check of `judge.py`, which runs once for all of them.
macro_rules! checks {
    ($($check:ident),+ $(,)?) => {
        const CHECKS: &[&str] = &[$(stringify!($check)),+];
        $(
            #[test]
            fn $check() {
                if let Err(what) = judged(stringify!($check)) {
                    panic!("{what}");
                }
            }
        )+
    };
}

checks! {
    a_command_has_streams_and_a_code,
    input_is_written_in_pieces_and_ends,
    input_is_written_as_a_stream,
    input_whose_answer_was_lost_is_read_once,
    megabytes_of_output_arrive_whole,
    an_entrypoint_talks_and_its_end_is_the_sandboxes,
    variables_come_from_image_secrets_and_command,
    a_command_has_a_secret_by_its_name_and_the_next_has_not,
    a_sandbox_has_the_resources_that_it_is_given,
    a_command_ends_at_its_time_out,
    a_sandbox_ends_at_its_time_out,
    a_sandbox_in_which_nothing_happens_ends,
    nothing_runs_in_a_sandbox_that_has_ended,
    a_name_is_that_of_one_sandbox,
    sandboxes_are_listed_by_tags_over_pages,
    a_sandbox_is_found_again_by_its_id,
    files_of_a_sandbox_are_read_and_written,
    a_snapshot_is_an_image,
    a_snapshot_is_kept_for_its_time,
    an_image_is_built_by_commands_once,
    a_build_says_which_command_failed,
    a_build_has_secrets_that_the_image_has_not,
    files_of_the_client_are_copied_into_an_image,
    files_are_put_into_volumes_and_read_back,
    what_a_sandbox_writes_reaches_the_volume_when_it_syncs_or_ends,
    a_part_of_a_volume_is_mounted_and_cannot_be_written,
    a_volume_has_one_version,
    a_volume_that_is_deleted_is_gone,
    a_blocked_network_is_blocked,
    an_allow_list_is_changed_while_the_sandbox_lives,
    addresses_are_allowed_one_by_one,
    a_sandbox_is_ready_when_its_probe_says_so,
    a_port_is_reached_through_its_tunnel,
    wrong_credentials_are_refused,
    credentials_are_not_recorded,
    a_sandbox_whose_answer_was_lost_is_made_once,
    output_goes_on_after_a_broken_connection,
    calls_are_made_again_after_throttling_and_cuts,
    an_expired_router_token_is_replaced,
    a_client_that_is_too_old_is_told,
    a_killed_sandbox_takes_its_commands_with_it,
}

#[test]
fn every_check_of_the_client_is_a_test() {
    assert_eq!(judge::names(), CHECKS);
}

/// What harvest's own client is held against. `#` and a number is a field that harvest does not know.
#[test]
fn what_the_client_sends() {
    insta::assert_snapshot!(sent::Sent::of(judge::calls()).text());
}
