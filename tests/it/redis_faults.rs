//! Every way in which Redis, or the network before it, fails: nothing is lost, nothing stands twice, all in order, and the
//! process neither dies nor stays unready. One function a fault, all in [`FAULTS`], so that they can be run one after the other on
//! one scene as well as each on its own.

use crate::{
    rig::{seed, struck},
    scene::Scene,
};

mod failover;
mod network;
mod replies;
mod stream;

/// What a fault does to a scene; it leaves the scene healthy, and what was sent unharmed unless it says otherwise to the ledger.
pub(crate) type Strike = fn(&mut Scene);

/// Every fault: its name, what it does, and whether the stream still proves everything by itself afterwards.
pub(crate) const FAULTS: &[(&str, Strike, bool)] = &[
    ("connection_refused", network::connection_refused, true),
    ("reset_mid_reply", network::reset_mid_reply, true),
    ("cut_mid_reply", network::cut_mid_reply, true),
    ("half_open", network::half_open, true),
    ("slow", network::slow, true),
    ("publish_reply_lost", replies::publish_reply_lost, true),
    ("bury_reply_lost", replies::bury_reply_lost, true),
    ("lease_reply_lost", replies::lease_reply_lost, true),
    ("read_reply_lost", replies::read_reply_lost, true),
    ("out_of_memory", replies::out_of_memory, true),
    ("read_only", replies::read_only, true),
    ("loading", replies::loading, true),
    ("group_destroyed", replies::group_destroyed, true),
    ("unblocked", replies::unblocked, true),
    ("client_kill", replies::client_kill, true),
    ("flush_all", stream::flush_all, false),
    ("deleted_and_lower_ids", stream::deleted_and_lower_ids, false),
    ("group_moved", stream::group_moved, true),
    ("trimmed_unread", stream::trimmed_unread, false),
    ("restarted_with_data", stream::restarted_with_data, true),
    ("restarted_without_data", stream::restarted_without_data, false),
    ("restarted_with_older_data", stream::restarted_with_older_data, false),
    ("failed_over_behind", failover::failed_over_behind, false),
    ("failed_over_to_other_entries_of_the_same_ids", failover::failed_over_to_other_entries_of_the_same_ids, false),
    ("failed_over_and_owner_killed", failover::failed_over_and_owner_killed, false),
];

/// Runs a fault on a scene of its own.
fn one(name: &str) {
    let (_, strike, whole) = FAULTS.iter().find(|(fault, ..)| *fault == name).unwrap();
    let Some(mut scene) = Scene::start(seed(name)) else { return };
    scene.produce(50);
    strike(&mut scene);
    scene.end(*whole);
    struck(&format!("redis: {name}"));
}

macro_rules! each {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            one(stringify!($name));
        })*

        #[test]
        fn every_fault_has_a_test() {
            assert_eq!(FAULTS.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

each! {
    connection_refused
    reset_mid_reply
    cut_mid_reply
    half_open
    slow
    publish_reply_lost
    bury_reply_lost
    lease_reply_lost
    read_reply_lost
    out_of_memory
    read_only
    loading
    group_destroyed
    unblocked
    client_kill
    flush_all
    deleted_and_lower_ids
    group_moved
    trimmed_unread
    restarted_with_data
    restarted_without_data
    restarted_with_older_data
    failed_over_behind
    failed_over_to_other_entries_of_the_same_ids
    failed_over_and_owner_killed
}
