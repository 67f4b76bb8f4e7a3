//! Bugs, switched on one at a time: what the tests do finds each of them, and nothing where it is off.

use std::{fs, os::unix::fs::FileExt, path::PathBuf, process::ExitStatus};

use task_logger::{event::StreamId, journal::segment::Scan};

use super::world::{AGED, Defect, SMALL, Source, World, defects_of};
use crate::{
    guests,
    kills::journaled,
    load::entry,
    rig::{Node, Rig, eventually, published, seed, within},
};

/// Every switch that there is in the code.
pub(super) const BUGS: &[&str] = &[
    "mutation::apply_before_publish",
    "mutation::no_epoch_check",
    "mutation::no_replay",
    "mutation::no_seal",
    "mutation::publish_before_sync",
    "mutation::retire_unsettled",
    "mutation::watermark",
];

/// A process with rules of its own, and with plugins that leave another mark than the other processes'.
struct Replica<'r> {
    rig: &'r Rig,
    node: Node,
    rules: PathBuf,
}

impl<'r> Replica<'r> {
    fn start(rig: &'r Rig, name: &str, rules: &str) -> Self {
        let root = rig.root().join(name);
        let plugins = root.join("plugins");
        fs::create_dir_all(&plugins).unwrap();
        let sidecar =
            format!("isolation = 'reuse'\n[config]\nmode = 'stamp'\nname = 'stamp'\nfiles = []\nversion = '{name}'\n");
        fs::write(plugins.join("stamp.toml"), sidecar).unwrap();
        fs::write(plugins.join("stamp.wasm"), guests::misbehave()).unwrap();
        let path = root.join("failpoints");
        arm(&path, rules);
        let env = [("PLUGINS_DIR", plugins.to_str().unwrap()), ("FAILPOINTS_FILE", path.to_str().unwrap())];
        let node = rig.spawn_with(&env);
        eventually("its plugin is live", || {
            node.json("/plugins").to_string().contains(&format!("\"version\":\"{name}\""))
        });
        Self { rig, node, rules: path }
    }

    fn arm(&self, rules: &str) {
        arm(&self.rules, rules);
    }

    fn owns(&self) {
        eventually("it owns the stream", || self.node.takes_events());
    }

    /// Until it has stopped itself.
    fn until_stopped(&self) {
        let stat = format!("/proc/{}/stat", self.node.pid());
        eventually("it has stopped itself", || {
            fs::read_to_string(&stat)
                .is_ok_and(|text| text.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
        });
    }

    /// Until all that was said is published and in the file.
    fn settled(&self, made: u32) {
        self.rig.wait_published(&mut self.rig.connect());
        let file = self.rig.logs().join("t/03-agent-output.jsonl");
        let all = made as usize;
        eventually("all is in the file", || fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == all));
    }
}

fn arm(path: &std::path::Path, rules: &str) {
    let new = path.with_extension("new");
    fs::write(&new, format!("{SMALL};{rules}")).unwrap();
    fs::rename(new, path).unwrap();
}

fn say(rig: &Rig, made: &mut u32, count: u32) {
    let mut redis = rig.connect();
    for _ in 0..count {
        *made += 1;
        let data = serde_json::json!({"content": format!("mark-{made:07}-end {}", "word ".repeat(40))}).to_string();
        crate::rig::add(&mut redis, &[("type", "task:output"), ("task_id", "t"), ("data", &data)]);
    }
}

/// Judges: found with the bug, nothing without it.
#[track_caller]
fn caught(bug: &str, on: bool, defects: &[Defect]) {
    eprintln!(
        "{bug} {}: {} defects, {:?}",
        if on { "on" } else { "off" },
        defects.len(),
        defects.iter().take(3).collect::<Vec<_>>()
    );
    assert_eq!(!defects.is_empty(), on, "{bug}: {defects:?}");
}

/// An owner stops between its last look at the lease and its journal, beyond the seal of the one that takes over, and wakes.
fn paused_owner(bug: &str, on: bool) {
    let Some(rig) = Rig::redis() else { return };
    let switch = if on { format!("{bug}=return") } else { String::new() };
    let mut made = 0;
    let first = Replica::start(&rig, "1", "");
    first.owns();
    say(&rig, &mut made, 5);
    first.settled(made);
    // None of its reader, the one who watches, a publisher with nothing to do, and the checkpointer may notice first:
    // that is luck.
    let unaware = "owner::look=pause;publish::again=return(60000);checkpoint::begin=pause";
    let slow = format!("{switch};{unaware};read::before=pause;publish::position=sleep(700)");
    first.arm(unaware);
    eventually("nobody watches", || first.node.log().contains("name=\"owner::look\""));
    first.arm(&format!("{slow};journal::append=stop"));
    say(&rig, &mut made, 3);
    first.until_stopped();
    let second = Replica::start(&rig, "second-one", "");
    second.owns();
    say(&rig, &mut made, 5);
    second.settled(made);
    assert_eq!(defects_of(&rig), [], "before it wakes");
    first.arm(&slow);
    first.node.resume();
    if on {
        within(std::time::Duration::from_secs(20), || !defects_of(&rig).is_empty());
    } else {
        eventually("it knows", || first.node.log().contains("took the stream over"));
        first.arm("");
        eventually("it stands by", || first.node.json("/health")["role"] == "standby");
    }
    caught(bug, on, &defects_of(&rig));
}

#[test]
fn apply_before_publish_is_caught_by_a_paused_owner_beyond_the_seal() {
    paused_owner("mutation::apply_before_publish", true);
}

#[test]
fn no_epoch_check_is_caught_by_a_paused_owner_beyond_the_seal() {
    paused_owner("mutation::no_epoch_check", true);
}

#[test]
fn a_paused_owner_beyond_the_seal_does_no_harm() {
    paused_owner("mutation::no_epoch_check", false);
}

/// An owner stops before it makes a new segment, wakes after it was replaced, and writes there; then all die.
fn late_segment(on: bool) {
    let bug = "mutation::no_seal";
    let Some(rig) = Rig::redis() else { return };
    let mut made = 0;
    let first = Replica::start(&rig, "1", "checkpoint::begin=pause");
    first.owns();
    first.arm("checkpoint::begin=pause;journal::create=stop");
    let stat = format!("/proc/{}/stat", first.node.pid());
    let stopped = || fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T"));
    while !stopped() {
        say(&rig, &mut made, 20);
        assert!(made < 20_000, "it never needs a segment");
        within(std::time::Duration::from_millis(10), stopped);
    }
    first.until_stopped();
    let second = Replica::start(&rig, "second-one", "checkpoint::begin=pause");
    second.owns();
    for _ in 0..5 {
        say(&rig, &mut made, 3);
        rig.wait_published(&mut rig.connect());
    }
    second.settled(made);
    first.arm("");
    first.node.resume();
    eventually("it stands by", || first.node.json("/health")["role"] == "standby");
    assert_eq!(defects_of(&rig), [], "before the replay");
    let late = rig.root().join("state/redis-task_events");
    let segments: Vec<_> = fs::read_dir(late).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let of_epoch = |epoch: &str| {
        segments
            .iter()
            .any(|name| name.to_str().unwrap().starts_with(epoch) && name.to_str().unwrap().ends_with(".wal"))
    };
    assert!(of_epoch("1-") && of_epoch("2-"), "{segments:?}");
    first.node.kill();
    second.node.kill();
    let third = Replica::start(&rig, "third", if on { "mutation::no_seal=return" } else { "" });
    third.owns();
    say(&rig, &mut made, 3);
    rig.wait_published(&mut rig.connect());
    if on {
        within(std::time::Duration::from_secs(10), || !defects_of(&rig).is_empty());
    } else {
        third.settled(made);
    }
    caught(bug, on, &defects_of(&rig));
}

#[test]
fn no_seal_is_caught_by_a_segment_begun_after_the_take_over() {
    late_segment(true);
}

#[test]
fn a_segment_begun_after_the_take_over_does_no_harm() {
    late_segment(false);
}

/// A redactor holds an event while later ones are committed; a kill, and a new start.
fn held_over_a_kill(on: bool) {
    let bug = "mutation::watermark";
    let Some(rig) = Rig::redis() else { return };
    let guard = "[config]\nname = 'guard'\nrole = 'redactor'\nmode = 'hold-until'\nmatch = 'open'\nuntil = 'closed'\nfiles = []\n";
    rig.put_guest("guard", guard);
    let mut world = World::on(rig.set("REQUIRED_PLUGINS", "guard").set("HOLD_MAX", "60s"), Source::Redis, seed(bug));
    world.start_owner();
    let data = |text: &str| serde_json::json!({ "content": text }).to_string();
    let say = |world: &World, task: &str, text: &str| {
        crate::rig::add(&mut world.rig.connect(), &[("type", "task:output"), ("task_id", task), ("data", &data(text))]);
    };
    say(&world, "held", "open");
    for _ in 0..20 {
        say(&world, "other", "plain");
    }
    let others = || fs::read_to_string(world.rig.logs().join("other/03-agent-output.jsonl")).unwrap_or_default();
    eventually("the later ones are written", || others().lines().count() == 20);
    world.node.take().unwrap().kill();
    world.arm(if on { "mutation::watermark=return" } else { "" });
    world.start_owner();
    say(&world, "held", "closed");
    let mut redis = world.rig.connect();
    world.rig.wait_published(&mut redis);
    within(std::time::Duration::from_secs(5), || world.defects().is_empty());
    caught(bug, on, &world.defects());
}

#[test]
fn a_watermark_is_caught_by_a_held_event_and_a_kill() {
    held_over_a_kill(true);
}

#[test]
fn a_held_event_survives_a_kill() {
    held_over_a_kill(false);
}

#[test]
fn no_replay_is_caught_by_a_crash_between_publish_and_apply() {
    let bug = "mutation::no_replay";
    for on in [false, true] {
        let Some(mut world) = World::new(Source::Redis, seed(bug)) else { return };
        world.start_owner();
        world.arm("publish::done=3*off->abort");
        world.feed_until_dead();
        world.arm(&if on { format!("{bug}=return") } else { String::new() });
        world.start_owner();
        let mut redis = world.rig.connect();
        world.rig.wait_published(&mut redis);
        within(std::time::Duration::from_secs(5), || world.defects().is_empty());
        caught(bug, on, &world.defects());
    }
}

/// Takes away what no sync has made durable, as a power loss may: the last record.
fn lose_power(world: &World) {
    let dir = world.rig.root().join("state/redis-task_events");
    let mut segments: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    segments.sort();
    let last = segments.pop().unwrap();
    let frame = Scan::open(&last, None).unwrap().last().unwrap().unwrap();
    let file = fs::OpenOptions::new().write(true).open(last).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&vec![0; (length - frame.offset) as usize], frame.offset).unwrap();
}

#[test]
fn publish_before_sync_is_caught_by_a_power_loss() {
    let bug = "mutation::publish_before_sync";
    for on in [false, true] {
        let Some(mut world) = World::new(Source::Redis, seed(bug)) else { return };
        world.start_owner();
        world.say("t");
        world.judge("the beginning");
        let switch = if on { format!("{bug}=return") } else { String::new() };
        // Death comes some time after the sync was asked for, so that whoever does not wait for it has time.
        world.arm(&format!("checkpoint::begin=pause;{switch};journal::sync=6*off->abort(400)"));
        let mut ended: Option<ExitStatus> = None;
        eventually("it dies", || {
            world.say("t");
            ended = world.node().ended();
            ended.is_some()
        });
        lose_power(&world);
        let published: StreamId = published(&mut world.rig.connect()).parse().unwrap();
        let journaled = journaled(&world.rig);
        eprintln!("{bug} {on}: published {published}, journaled {}", journaled.low);
        assert_eq!(published > journaled.low, on, "{bug}");
    }
}

/// Retention comes to a task while its first checkpoint is being made, which would bring it back.
#[test]
fn retire_unsettled_is_caught_by_a_checkpoint_that_is_being_made() {
    let bug = "mutation::retire_unsettled";
    for on in [false, true] {
        let rig = Rig::embedded().set("RETAIN_IDLE", "1h");
        let mut world = World::on(rig, Source::Embedded, seed(bug));
        world.always("retention::every=return(50)");
        let switch = if on { format!("{bug}=return") } else { String::new() };
        world.start_owner();
        world.arm(&format!("checkpoint::syncfs=pause;{switch}"));
        // By its flow: the task's own lane knows nothing of it.
        let flow = [("type", "webhook:x"), ("webhook_event_id", "w"), ("data", "{\"task_id\":\"t\"}")];
        world.send(vec![entry(&flow)]);
        eventually("the checkpoint has it", || world.node().log().contains("name=\"checkpoint::syncfs\""));
        let dir = world.rig.logs().join("t");
        eventually("it is written", || dir.join("metadata.json").try_exists().unwrap());
        let old = std::time::SystemTime::now() - AGED;
        let gone = within(std::time::Duration::from_secs(2), || {
            // Each new file in it makes it young.
            drop(fs::File::open(&dir).and_then(|dir| dir.set_modified(old)));
            world.is_published() && !dir.try_exists().unwrap()
        });
        assert_eq!(gone, on, "{bug}");
        world.arm("");
        eventually("the checkpoint is made", || dir.join(".state").try_exists().unwrap());
        world.say("u");
        eventually("all is published", || world.is_published());
        world.node.take().unwrap().terminate();
        caught(bug, on, &world.defects());
    }
}
