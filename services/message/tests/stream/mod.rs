//! `Subscribe`, over real gRPC, on each database.

mod access;
mod faults;
mod follow;
mod harness;
mod lifetime;
mod redis;
mod turns;
mod typing;

use parlance_db::test_on_each_db;

/// All tests, to be stamped on each database.
mod suite {
    pub(crate) use crate::stream::access::*;
    pub(crate) use crate::stream::faults::*;
    pub(crate) use crate::stream::follow::*;
    pub(crate) use crate::stream::lifetime::*;
    pub(crate) use crate::stream::typing::*;
}

test_on_each_db!(parlance_message::MIGRATIONS, crate::stream::suite =>
    a_stream_replays_then_catches_up_then_is_live,
    resuming_from_any_cursor_gives_what_a_full_replay_gives,
    a_room_that_cannot_be_attached_is_tried_again_beside_the_others,
    a_stream_follows_all_rooms_of_its_user_as_they_come_and_go,
    cursors_of_known_rooms_are_honoured_among_all_rooms,
    a_kind_that_is_not_known_passes_untouched,
    receipts_come_as_notices_with_their_latest_values,
    a_room_without_a_cursor_starts_at_the_latest_or_at_the_join,
    what_cannot_be_followed_is_named,
    a_call_fails_only_when_every_room_is_refused,
    a_service_that_acts_for_nobody_follows_rooms_it_is_not_in,
    nothing_after_a_removal_reaches_the_removed_user,
    a_member_who_is_added_again_follows_again,
    history_since_the_join_hides_what_was_before,
    deleted_content_is_never_replayed,
    a_deleted_room_ends_with_its_closing_event,
    a_cursor_of_an_earlier_life_is_reset,
    hints_that_are_lost_repeated_and_reordered_cost_only_time,
    a_lost_hint_does_not_hide_a_new_room,
    a_stream_that_is_not_read_is_ended_and_costs_others_nothing,
    a_slow_stream_falls_out_of_the_ring_and_misses_nothing,
    a_node_without_memory_for_rings_serves_from_blocks,
    cursors_that_do_not_hold_are_reset,
    an_open_stream_is_told_of_a_new_epoch,
    a_stream_that_meets_a_ring_of_an_old_epoch_is_attached_once,
    a_log_that_lost_its_end_resets_open_streams,
    a_disturbed_bus_makes_heads_be_checked_at_once,
    heads_are_polled_while_the_bus_is_away,
    a_room_that_is_on_its_way_is_gone_on_with_from_its_join,
    what_another_node_deleted_is_not_replayed_though_its_hint_is_lost,
    a_removal_on_another_node_is_obeyed_at_its_place,
    receipts_cross_nodes_and_are_told_again_after_a_disturbance,
    disturbances_cost_a_payload_and_not_one_per_notice,
    an_outage_is_unavailable_and_never_an_answer,
    an_expired_token_ends_the_stream_within_a_second,
    a_store_that_hangs_holds_up_neither_the_end_of_a_stream_nor_its_other_rooms,
    a_draining_node_sends_its_streams_away,
    streams_that_are_sent_away_together_are_told_different_times,
    a_stream_that_is_sent_away_before_it_knows_its_rooms_gives_its_cursors_back,
    a_stream_ends_when_its_life_is_over,
    heartbeats_name_the_positions_that_moved,
    a_user_has_a_bounded_number_of_streams,
    a_stream_counts_as_open_until_its_reader_is_gone,
    those_who_act_for_nobody_have_a_bounded_number_of_streams,
    nobody_is_told_who_types_in_a_channel,
    typing_ends_by_itself_on_every_stream_but_its_own,
    who_stops_while_a_room_is_looked_at_again_is_not_typing_for_ever,
    typing_crosses_nodes_and_ends_though_its_node_is_gone,
);
