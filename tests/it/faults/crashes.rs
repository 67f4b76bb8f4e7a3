//! A crash at every step: the process dies there at a random hit, is started again, and what is left is judged.

use std::{fs::OpenOptions, io::Write, os::unix::process::ExitStatusExt, time::Instant};

use super::{
    steps::{STEPS, Step, When, is_retaining, is_trimming},
    world::{Source, World},
};

use crate::rig::{Rig, eventually, seed, struck};

/// Runs into one step's crash, and back to health.
pub(super) fn crash_at(world: &mut World, step: &Step) {
    let fatal = |hits: u64| format!("{};{}={hits}*off->abort", step.with, step.name);
    match step.when {
        When::Running(hits) => {
            let hits = world.rng.u64(0..hits);
            world.arm(&fatal(hits));
        }
        When::Starting => {
            leave_work(world);
            world.arm(&fatal(0));
            world.start();
        }
        When::Ending => {
            world.feed(40);
            world.arm(&fatal(0));
            world.node().ask_to_end();
        }
    }
    let ended = world.feed_until_dead();
    let log = world.node().log();
    assert!(ended.signal().is_some(), "{}: it ended with {ended}:\n{log}", step.name);
    assert!(log.contains(&format!("name=\"{}\"", step.name)), "{} was never reached:\n{log}", step.name);
    world.recover(step.name);
    struck(&format!("{:?}: crash at {}", world.source, step.name));
}

/// Kills the process with records that no checkpoint covers, one of them of a file that goes on behind its end.
fn leave_work(world: &mut World) {
    world.arm("checkpoint::begin=pause");
    world.feed(40);
    world.say("cut-me");
    let file = world.rig.logs().join("cut-me/03-agent-output.jsonl");
    let last = format!("mark-9{:06}-end", world.said());
    eventually("the last line is applied", || std::fs::read_to_string(&file).is_ok_and(|text| text.contains(&last)));
    world.node.take().unwrap().kill();
    OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"of\":\"nobody").unwrap();
}

fn crash_everywhere(test: &str, source: Source, share: usize, of: usize) {
    let Some(mut world) = World::new(source, seed(test)) else { return };
    world.start_owner();
    let asked_for = |step: &&Step| is_trimming(step) || is_retaining(step);
    let here = STEPS.iter().filter(|step| step.only.is_none_or(|only| only == source) && !asked_for(step));
    for step in here.skip(share).step_by(of) {
        let started = Instant::now();
        crash_at(&mut world, step);
        eprintln!("{test}: {} in {:?}", step.name, started.elapsed());
    }
    world.end();
}

/// Each of them several times, between other crashes: what is trimmed must be what nobody needs, also after a kill.
fn crash_while_trimming(test: &str, rig: Rig, source: Source) {
    let mut world = World::on(rig.set("TRIM", "published"), source, seed(test));
    // What was answered may be trimmed before it is looked for.
    world.tolerated.push("not in the stream");
    world.start_owner();
    let also = ["publish::executed", "publish::done", "checkpoint::rename", "checkpoint::done", "recover::checkpoint"];
    let here = STEPS.iter().filter(|step| step.only.is_none_or(|only| only == source));
    let steps: Vec<_> =
        here.filter(|step| is_trimming(step) || step.name == "log::trim" || also.contains(&step.name)).collect();
    for step in steps.iter().chain(&steps) {
        crash_at(&mut world, step);
    }
    world.judge("all crashes");
    let metrics = |world: &mut World| {
        let lines = world.node().metrics();
        let line = lines.lines().find_map(|line| line.strip_prefix("task_logger_events_trimmed_total "));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
    };
    (0..30).for_each(|_| world.feed(30));
    eventually("it still trims", || metrics(&mut world) > 0.0);
    world.judge("trimming");
    // Letters are not compared with their entries, as elsewhere: those are gone.
    world.node.take().unwrap().terminate();
    assert_eq!(world.defects(), []);
}

/// Each of them several times, while all that stands there is made old again and again: what retention took away is gone, and
/// what came later is there, also after a kill.
fn crash_while_removing(test: &str, rig: Rig, source: Source) {
    let rig = rig.set("RETAIN", "1h").set("RETAIN_IDLE", "1h");
    let mut world = World::on(rig, source, seed(test));
    world.ages = true;
    world.always("retention::every=return(50)");
    world.start_owner();
    let also = [
        "commit::formed",
        "journal::synced",
        "publish::done",
        "apply::begin",
        "apply::done",
        "checkpoint::state_renamed",
        "checkpoint::rename",
        "checkpoint::done",
        "recover::record",
        "recover::applied",
        "recover::checkpoint",
    ];
    let here = STEPS.iter().filter(|step| step.only.is_none_or(|only| only == source));
    let steps: Vec<_> = here.filter(|step| is_retaining(step) || also.contains(&step.name)).collect();
    for step in steps.iter().chain(&steps) {
        crash_at(&mut world, step);
    }
    world.judge("all crashes");
    let removed = crate::retention::removed(world.node());
    eventually("it still removes", || {
        world.feed(30);
        crate::retention::removed(world.node()) > removed
    });
    world.judge("removing");
    world.node.take().unwrap().terminate();
    assert_eq!(world.defects(), []);
}

#[test]
fn a_crash_while_removing_on_redis() {
    let Some(rig) = Rig::redis() else { return };
    crash_while_removing("a_crash_while_removing_on_redis", rig, Source::Redis);
}

#[test]
fn a_crash_while_removing_on_the_embedded_stream() {
    crash_while_removing("a_crash_while_removing_on_the_embedded_stream", Rig::embedded(), Source::Embedded);
}

#[test]
fn a_crash_while_trimming_on_redis() {
    let Some(rig) = Rig::redis() else { return };
    crash_while_trimming("a_crash_while_trimming_on_redis", rig, Source::Redis);
}

#[test]
fn a_crash_while_trimming_on_the_embedded_stream() {
    crash_while_trimming("a_crash_while_trimming_on_the_embedded_stream", Rig::embedded(), Source::Embedded);
}

#[test]
fn a_crash_at_every_step_on_redis_odd() {
    crash_everywhere("a_crash_at_every_step_on_redis_odd", Source::Redis, 1, 2);
}

#[test]
fn a_crash_at_every_step_on_redis_even() {
    crash_everywhere("a_crash_at_every_step_on_redis_even", Source::Redis, 0, 2);
}

#[test]
fn a_crash_at_every_step_on_the_embedded_stream_odd() {
    crash_everywhere("a_crash_at_every_step_on_the_embedded_stream_odd", Source::Embedded, 1, 2);
}

#[test]
fn a_crash_at_every_step_on_the_embedded_stream_even() {
    crash_everywhere("a_crash_at_every_step_on_the_embedded_stream_even", Source::Embedded, 0, 2);
}
