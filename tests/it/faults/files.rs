//! Files that somebody lost, cut, spoiled, or brought back from a backup: no line that stood is taken away, and what cannot be
//! known is said.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::world::{Source, World};
use crate::{
    checker::files_below,
    rig::{eventually, seed, struck},
};

/// A world with some work done, and all of it in the files.
fn at_work(source: Source, test: &str) -> Option<World> {
    let mut world = World::new(source, seed(test))?;
    world.start_owner();
    world.feed(300);
    world.say("again");
    world.judge("the beginning");
    Some(world)
}

fn stop(world: &mut World) {
    world.node.take().unwrap().terminate();
}

fn state_dir(world: &World) -> PathBuf {
    world.rig.root().join("state")
}

fn copy(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn states(world: &World) -> Vec<PathBuf> {
    let all = files_below(&world.rig.logs());
    // A flow's says which task it joined, which nothing else does: without it later events of the flow stand by themselves.
    all.into_iter().filter(|path| path.ends_with(".state") && !path.to_str().unwrap().contains("_webhooks")).collect()
}

/// Goes on with old tasks and new ones, and judges.
fn goes_on(world: &mut World, after: &str) {
    world.start_owner();
    world.feed(200);
    world.say("again");
    world.judge(after);
    struck(&format!("{:?}: {after}", world.source));
}

#[test]
fn a_lost_journal_takes_nothing_away_and_is_told() {
    for source in [Source::Redis, Source::Embedded] {
        let Some(mut world) = at_work(source, "a_lost_journal") else { return };
        stop(&mut world);
        fs::remove_dir_all(state_dir(&world)).unwrap();
        goes_on(&mut world, "the journal was lost");
        let notices = world.node().json("/health")["notices"].to_string();
        assert!(notices.contains("the journal is gone"), "{notices}");
        // The new one is a journal like any other, although the states bear the old one's numbers.
        world.node.take().unwrap().kill();
        goes_on(&mut world, "a kill after the journal was lost");
        world.end();
    }
}

#[test]
fn an_old_copy_of_the_journal_takes_nothing_away_and_is_told() {
    for source in [Source::Redis, Source::Embedded] {
        let Some(mut world) = at_work(source, "an_old_copy_of_the_journal") else { return };
        let aside = world.rig.root().join("backup");
        world.feed(50);
        world.node.take().unwrap().kill();
        copy(&state_dir(&world), &aside);
        goes_on(&mut world, "a kill");
        goes_further(&mut world);
        stop(&mut world);
        copy(&aside, &state_dir(&world));
        goes_on(&mut world, "an old copy of the journal");
        let notices = world.node().json("/health")["notices"].to_string();
        assert!(notices.contains("old copy"), "{notices}");
        world.end();
    }
}

/// Some more, up to a checkpoint.
fn goes_further(world: &mut World) {
    for _ in 0..3 {
        world.feed(200);
        world.judge("more");
    }
}

#[test]
fn a_damaged_checkpoint_stops_and_takes_nothing_away() {
    let Some(mut world) = at_work(Source::Embedded, "a_damaged_checkpoint") else { return };
    stop(&mut world);
    let is_checkpoint = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("checkpoint-");
    let checkpoint = files_below(&state_dir(&world)).into_iter().find(is_checkpoint).unwrap();
    let good = fs::read(&checkpoint).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&checkpoint, bad).unwrap();
    world.start();
    eventually("it exits", || !world.node().is_running());
    assert!(world.node().log().contains("wrong checksum"), "{}", world.node().log());
    fs::write(&checkpoint, good).unwrap();
    goes_on(&mut world, "the checkpoint is back");
    world.end();
}

#[test]
fn states_that_are_lost_spoiled_or_old_take_nothing_away() {
    for source in [Source::Redis, Source::Embedded] {
        let Some(mut world) = at_work(source, "states_that_are_lost_spoiled_or_old") else { return };
        stop(&mut world);
        states(&world).iter().for_each(|path| fs::remove_file(path).unwrap());
        goes_on(&mut world, "states were lost");
        stop(&mut world);
        // Those of tasks that nothing happens to stay as they are.
        world.tolerated = vec!["unreadable"];
        for path in states(&world) {
            let mut bytes = fs::read(&path).unwrap();
            let length = bytes.len();
            (16..length).for_each(|at| bytes[at] = bytes[at].wrapping_add(world.rng.u8(1..)));
            fs::write(path, bytes).unwrap();
        }
        goes_on(&mut world, "states were spoiled");
        stop(&mut world);
        let old: Vec<_> = states(&world).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
        goes_on(&mut world, "more work");
        stop(&mut world);
        old.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
        goes_on(&mut world, "states were old");
        assert!(world.node().log().contains("older than the files"), "{}", world.node().log());
        stop(&mut world);
        assert_eq!(world.defects(), []);
    }
}

/// Whole lines of a task's output that hold a text.
fn lines_with(world: &World, task: &str, text: &str) -> usize {
    let file = fs::read(world.rig.logs().join(task).join("03-agent-output.jsonl")).unwrap_or_default();
    let lines = file.split(|byte| *byte == b'\n');
    let whole = lines.filter(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok());
    whole.filter(|line| memchr::memmem::find(line, text.as_bytes()).is_some()).count()
}

#[test]
fn files_cut_and_removed_under_the_service_cost_their_own_lines_only() {
    let Some(mut world) = at_work(Source::Redis, "files_cut_and_removed") else { return };
    for _ in 0..5 {
        world.say("cut");
        world.say("gone");
        world.say("emptied");
    }
    world.judge("the beginning");
    for task in ["cut", "gone", "emptied"] {
        eventually("it stands in the files", || lines_with(&world, task, "mark-") == 5);
    }
    let cut = world.rig.logs().join("cut/03-agent-output.jsonl");
    let length = fs::metadata(&cut).unwrap().len();
    let truncate = |path: &Path, to: u64| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(to).unwrap();
    // In the middle of a line.
    truncate(&cut, length / 2 + 20);
    truncate(&world.rig.logs().join("emptied/03-agent-output.jsonl"), 0);
    // The service may be writing into it.
    eventually("it is removed", || fs::remove_dir_all(world.rig.logs().join("gone")).is_ok());
    let kept = lines_with(&world, "cut", "mark-");
    assert!(kept >= 2);
    let tasks = ["cut", "gone", "emptied"];
    let check = |world: &mut World, kept: usize| {
        for task in tasks {
            world.say(task);
            world.say(task);
            let last = format!("mark-9{:06}-end", world.said());
            eventually("a later line stands whole", || lines_with(world, task, &last) == 1);
        }
        assert!(lines_with(world, "cut", "mark-") >= kept + 2);
    };
    check(&mut world, kept);
    assert!(world.node().log().contains("lines are lost"), "{}", world.node().log());
    // And by one that starts anew, which is not the one that wrote.
    stop(&mut world);
    truncate(&cut, length / 2 + 20);
    world.start_owner();
    check(&mut world, kept);
    struck("files cut, emptied, removed");
    // Whatever else is there is whole.
    world.feed(100);
    let of_others = |world: &World| {
        let mut defects = world.defects();
        defects.retain(|defect| !tasks.iter().any(|task| defect.file.starts_with(task)));
        defects
    };
    eventually("nothing else is hurt", || of_others(&world).is_empty());
    world.node.take().unwrap().terminate();
}
