//! An error at every step that can have one. What may pass (no room, no quota, no permission, read-only) is waited for: the
//! process lives, `/ready?write` says 503, and 200 again by itself; after anything else, and after any failed sync, it exits and
//! the next start recovers.

use super::{
    steps::{STEPS, Step, When},
    world::{Source, World},
};
use crate::{
    load::entry,
    rig::{Rig, TALLY, eventually, seed, struck},
};

/// Errors that may pass.
const PASSING: [&str; 4] = ["ENOSPC", "EDQUOT", "EROFS", "EACCES"];

/// What comes of an error that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is waited for.
    Waits,
    /// It is waited for, without a word: nothing stands still meanwhile.
    Goes,
    /// Not here: the process exits, as after any other error.
    Exits,
}
use Then::{Exits, Goes, Waits};

/// Steps under way, and what an error there does.
const RUNNING: &[(&str, Then)] = &[
    ("journal::append", Waits),
    ("journal::part", Waits),
    ("journal::written", Waits),
    ("journal::create", Waits),
    ("journal::zeroed", Waits),
    ("journal::start", Waits),
    ("journal::rename", Waits),
    ("journal::renamed", Exits),
    ("journal::sync", Exits),
    ("journal::recycle", Goes),
    ("apply::mkdir", Waits),
    ("apply::open", Waits),
    ("apply::stage", Waits),
    ("apply::stage_part", Waits),
    ("apply::staged", Waits),
    ("apply::rename", Waits),
    ("apply::append", Waits),
    ("apply::part", Waits),
    ("apply::remove", Waits),
    ("checkpoint::state", Waits),
    ("checkpoint::state_part", Waits),
    ("checkpoint::syncfs", Exits),
    ("checkpoint::synced", Exits),
    ("checkpoint::write", Waits),
    ("checkpoint::part", Waits),
    ("checkpoint::sync", Exits),
    ("checkpoint::rename", Waits),
];

/// The same on the embedded stream.
const EMBEDDED: &[(&str, Then)] = &[
    ("log::position", Waits),
    ("log::position_part", Waits),
    ("log::append", Waits),
    ("log::part", Waits),
    ("log::written", Waits),
    ("log::create", Waits),
    ("log::zeroed", Waits),
    ("log::start", Waits),
    ("log::rename", Waits),
    ("log::sync", Exits),
    ("dead::append", Waits),
    ("dead::part", Waits),
    ("dead::written", Waits),
    ("dead::create", Waits),
    ("dead::sync", Exits),
];

/// Of retention, on both.
const REMOVING: &[(&str, Then)] =
    &[("apply::clear", Waits), ("tombstones::append", Waits), ("tombstones::part", Waits), ("tombstones::sync", Exits)];

/// Steps of a start; those of a sync exit.
const STARTING: &[(&str, Then)] = &[
    ("journal::read", Waits),
    ("journal::create", Waits),
    ("journal::zeroed", Waits),
    ("journal::start", Waits),
    ("journal::renamed", Exits),
    ("apply::append", Waits),
    ("checkpoint::syncfs", Exits),
    ("checkpoint::write", Waits),
    ("checkpoint::sync", Exits),
    ("checkpoint::rename", Waits),
    ("recover::remove", Waits),
];

/// Connections that break.
const BROKEN: &[&str] = &["read::before", "publish::bury", "publish::buried", "publish::position", "publish::executed"];

/// Rules that lead to a step.
fn leading(step: &str) -> &'static str {
    let listed = |listed: &&Step| listed.name == step && matches!(listed.when, When::Running(_));
    STEPS.iter().find(listed).map_or("", |step| step.with)
}

fn told(world: &mut World, step: &str) -> bool {
    world.node().log().contains(&format!("name=\"{step}\""))
}

/// An error that passes: the service waits, says so, and goes on by itself.
fn passes(world: &mut World, step: &str, error: &str, then: Then) {
    world.arm(&format!("{};{step}=return({error})", leading(step)));
    for _ in 0..400 {
        if told(world, step) {
            break;
        }
        world.feed(30);
        crate::rig::let_pass(std::time::Duration::from_millis(20));
    }
    assert!(told(world, step), "{step} was never reached");
    if then == Waits {
        eventually(&format!("{step}: not ready to write"), || world.node().get("/ready?write").0 == 503);
    }
    world.feed(10);
    assert!(world.node().is_running(), "{step}: {error}:\n{}", world.node().log());
    world.arm("");
    eventually(&format!("{step}: ready again"), || world.node().takes_events());
    world.judge(&format!("{error} at {step}"));
    struck(&format!("{:?}: an error that may pass at {step}", world.source));
}

/// An error that does not: the process exits by itself, and the next one recovers.
fn exits(world: &mut World, step: &str, error: &str) {
    world.arm(&format!("{};{step}=return({error})", leading(step)));
    for _ in 0..400 {
        if told(world, step) || world.node().ended().is_some() {
            break;
        }
        world.feed(30);
        crate::rig::let_pass(std::time::Duration::from_millis(20));
    }
    // What led there may hold up what must come of it: a journal that waits for a checkpoint asks for no new file.
    world.arm(&format!("{step}=return({error})"));
    let ended = world.feed_until_dead();
    assert!(told(world, step), "{step} was never reached");
    assert!(ended.code().is_some_and(|code| code != 0), "{error} at {step}: {ended}:\n{}", world.node().log());
    world.recover(&format!("{error} at {step}"));
    struck(&format!("{:?}: an error that ends the process at {step}", world.source));
}

fn errors_under_way(test: &str, source: Source, table: &[(&str, Then)]) {
    let Some(mut world) = World::new(source, seed(test)) else { return };
    world.start_owner();
    errors_of(&mut world, table);
    world.end();
}

/// Each error that may pass, and some that do not.
fn errors_of(world: &mut World, table: &[(&str, Then)]) {
    let first = world.rng.usize(..4);
    for (at, &(step, then)) in table.iter().enumerate() {
        // Over some runs every error at every step; each of them in every run.
        let error = PASSING[(first + at) % 4];
        match then {
            Exits => exits(world, step, error),
            _ => passes(world, step, error, then),
        }
    }
    // In torture each fault is to be counted, not only one in three.
    let share = if std::env::var_os(TALLY).is_some() { 1 } else { 3 };
    let fatal = table.iter().filter(|(step, _)| !step.starts_with("log::") || step.starts_with("log::pos"));
    for (step, _) in fatal.skip(first % share).step_by(share) {
        exits(world, step, "EIO");
    }
}

#[test]
fn errors_while_removing_are_waited_for_or_exit() {
    for source in [Source::Redis, Source::Embedded] {
        let rig = match source {
            Source::Redis => Rig::redis(),
            Source::Embedded => Some(Rig::embedded()),
        };
        let Some(rig) = rig else { continue };
        let rig = rig.set("RETAIN", "1h").set("RETAIN_IDLE", "1h");
        let mut world = World::on(rig, source, seed("errors_while_removing"));
        world.ages = true;
        world.always("retention::every=return(50)");
        world.start_owner();
        errors_of(&mut world, REMOVING);
        world.judge("all errors");
        world.node.take().unwrap().terminate();
        assert_eq!(world.defects(), []);
    }
}

#[test]
fn errors_under_way_on_redis() {
    errors_under_way("errors_under_way_on_redis", Source::Redis, RUNNING);
}

#[test]
fn errors_under_way_on_the_embedded_stream() {
    errors_under_way("errors_under_way_on_the_embedded_stream", Source::Embedded, EMBEDDED);
}

/// Appends an event of a webhook flow.
fn tell(world: &mut World, flow: &str, kind: &str, data: &str) {
    world.send(vec![entry(&[("type", kind), ("webhook_event_id", flow), ("data", data)])]);
}

/// Entries that the process has read.
fn read(world: &mut World) -> f64 {
    let metrics = world.node().metrics();
    let lines = metrics.lines().filter(|line| line.starts_with("task_logger_events_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// What ends an ownership while a flow's join waits for its files drops the join; what came after it must not be journaled.
#[test]
fn in_order_when_files_fail_while_a_join_waits_for_them() {
    for source in [Source::Redis, Source::Embedded] {
        let Some(mut world) = World::new(source, seed("in_order_when_files_fail")) else { return };
        world.start_owner();
        for turn in 0..4 {
            let flow = format!("joining-{turn}");
            tell(&mut world, &flow, "webhook:received", "{}");
            world.judge("a flow's beginning");
            world.arm("apply::begin=pause");
            // One that is published and not applied, ...
            tell(&mut world, &flow, "webhook:validated", "{}");
            eventually("the files are behind", || world.is_published());
            // ... the join that waits for it, and what comes behind in batches of its own.
            tell(&mut world, &flow, "webhook:task_created", &format!("{{\"task_id\":\"joined-{turn}\"}}"));
            for _ in 0..3 {
                let before = read(&mut world);
                tell(&mut world, &flow, "webhook:payload", "{}");
                eventually("it is read", || read(&mut world) > before);
            }
            world.arm("apply::open=return(EIO);apply::append=return(EIO)");
            let ended = world.feed_until_dead();
            assert!(ended.code().is_some_and(|code| code != 0), "{ended}");
            world.recover("EIO while a join waits");
        }
        world.end();
    }
}

/// An append that fails is told to who appends, and nothing else comes of it.
#[test]
fn an_append_that_fails_for_good_is_refused_and_the_next_one_works() {
    let mut world = World::new(Source::Embedded, seed("an_append_that_fails_for_good")).unwrap();
    world.start_owner();
    world.feed(20);
    world.arm("log::part=3*return(EIO)");
    let body = "{\"type\":\"task:output\",\"task_id\":\"t\",\"data\":{\"content\":\"refused\"}}";
    for _ in 0..3 {
        assert_eq!(world.node().post("/events", body), 503);
    }
    eventually("it takes events again", || world.node().takes_events());
    world.feed(20);
    world.judge("EIO at log::part");
    assert!(
        world
            .stream()
            .entries
            .iter()
            .all(|entry| entry.field("data").is_none_or(|data| !data.ends_with(b"refused\"}")))
    );
    world.end();
}

#[test]
fn errors_of_a_start_are_waited_for_or_exit() {
    let test = "errors_of_a_start_are_waited_for_or_exit";
    for source in [Source::Redis, Source::Embedded] {
        let Some(mut world) = World::new(source, seed(test)) else { return };
        world.start_owner();
        let first = world.rng.usize(..4);
        for (at, &(step, then)) in STARTING.iter().enumerate() {
            world.arm("checkpoint::begin=pause");
            world.feed(40);
            crate::rig::let_pass(std::time::Duration::from_millis(50));
            world.node.take().unwrap().kill();
            let error = if then == Exits || at % 4 == 3 { "EIO" } else { PASSING[(first + at) % 4] };
            world.arm(&format!("{step}=return({error})"));
            world.start();
            if error == "EIO" {
                let ended = world.feed_until_dead();
                assert!(ended.code().is_some_and(|code| code != 0), "{error} at {step}: {ended}");
                assert!(told(&mut world, step), "{step} was never reached");
                world.recover(&format!("{error} at {step} of a start"));
            } else {
                eventually(&format!("{step} is reached"), || told(&mut world, step));
                eventually(&format!("{step}: not ready"), || world.node().get("/ready?write").0 == 503);
                world.arm("");
                eventually(&format!("{step}: ready"), || world.node().takes_events());
                world.judge(&format!("{error} at {step} of a start"));
            }
        }
        world.end();
    }
}

#[test]
fn connections_that_break_are_made_again() {
    let test = "connections_that_break_are_made_again";
    for source in [Source::Redis, Source::Embedded] {
        let Some(mut world) = World::new(source, seed(test)) else { return };
        world.start_owner();
        for step in BROKEN {
            passes(&mut world, step, "ECONNRESET", Waits);
        }
        world.end();
    }
}
