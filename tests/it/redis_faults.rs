//! Every way in which Redis, or the network before it, fails: nothing is lost, nothing stands twice, all in order, and the
//! process neither dies nor stays unready. One function a fault, all in [`FAULTS`], so that they can be run one after the other on
//! one scene as well as each on its own.

use crate::{rig::seed, scene::Scene};

mod network;

/// What a fault does to a scene; it leaves the scene healthy, and what was sent unharmed unless it says otherwise to the ledger.
pub(crate) type Strike = fn(&mut Scene);

/// Every fault: its name, what it does, and whether the stream still proves everything by itself afterwards.
pub(crate) const FAULTS: &[(&str, Strike, bool)] = &[
    ("connection_refused", network::connection_refused, true),
    ("reset_mid_reply", network::reset_mid_reply, true),
    ("cut_mid_reply", network::cut_mid_reply, true),
    ("half_open", network::half_open, true),
    ("slow", network::slow, true),
];

/// Runs a fault on a scene of its own.
fn one(name: &str) {
    let (_, strike, whole) = FAULTS.iter().find(|(fault, ..)| *fault == name).unwrap();
    let Some(mut scene) = Scene::start(seed(name)) else { return };
    scene.produce(50);
    strike(&mut scene);
    scene.end(*whole);
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
}
