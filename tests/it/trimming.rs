//! What leaves the stream by `TRIM=published`, and above all what does not: what is not in a checkpoint, what another group needs,
//! what a dead letter refers to, what stands in a stream that took the place of the one that was read.

use serde_json::json;

use crate::{
    checker::{Id, verify},
    faults::world::{Source, World},
    rig::{Node, Rig, eventually, seed},
    scene::run,
};

/// Worlds on both streams that trim, looking often.
fn on_both(test: &str, case: impl Fn(World)) {
    let trimming = |rig: Rig| rig.set("TRIM", "published");
    let mut world = World::on(trimming(Rig::embedded()), Source::Embedded, seed(test));
    // What was answered may be trimmed before it is looked for.
    world.tolerated.push("not in the stream");
    case(world);
    if let Some(rig) = Rig::redis() {
        case(World::on(trimming(rig), Source::Redis, seed(test)));
    }
}

const OFTEN: &str = "trim::every=return(50)";

fn trimmed(node: &Node) -> f64 {
    let metrics = node.metrics();
    let value = metrics.lines().find_map(|line| line.strip_prefix("task_logger_events_trimmed_total "));
    value.and_then(|value| value.parse().ok()).expect("it is counted from the start")
}

/// Looks at the stream that were made since a rule for it was put in place.
fn looks(world: &mut World, step: &str) -> usize {
    world.node().log().matches(&format!("name=\"{step}\"")).count()
}

/// Ends the process and judges what it left. Letters are not compared with their entries: those are gone.
fn finish(world: &mut World) {
    world.node.take().unwrap().terminate();
    assert_eq!(world.defects(), []);
}

/// Large enough that segments of the embedded stream fill.
fn say_much(world: &mut World, count: usize) {
    for _ in 0..count / 30 {
        world.feed(30);
    }
}

fn first(world: &World) -> Option<Id> {
    // What is there now, not what was ever seen.
    match world.source {
        Source::Redis => crate::checker::Stream::of_redis(&mut world.rig.connect()),
        Source::Embedded => crate::checker::Stream::of_embedded(&world.rig.root().join("stream")),
    }
    .entries
    .first()
    .map(|entry| entry.id)
}

#[test]
fn trim_takes_what_is_published_and_in_a_checkpoint_and_nothing_before() {
    on_both("trim_takes_what_is_published", |mut world| {
        world.start_owner();
        world.arm(&format!("{OFTEN};checkpoint::begin=pause;trim::begin=return(EIO)"));
        say_much(&mut world, 900);
        let oldest = first(&world);
        eventually("all is published", || world.is_published());
        world.arm(&format!("{OFTEN};checkpoint::begin=pause;trim::begin=sleep(1)"));
        let before = looks(&mut world, "trim::begin");
        eventually("it looks for what may go", || looks(&mut world, "trim::begin") > before + 2);
        assert_eq!(first(&world), oldest, "no checkpoint has it");
        assert!(trimmed(world.node()) == 0.0);
        world.arm(OFTEN);
        eventually("it goes", || trimmed(world.node()) >= 300.0 && first(&world) > oldest);
        world.judge("trimming");
        finish(&mut world);
    });
}

#[test]
fn trim_is_off_unless_it_is_asked_for() {
    let Some(rig) = Rig::redis() else { return };
    let mut world = World::on(rig, Source::Redis, seed("off"));
    world.start_owner();
    world.arm(OFTEN);
    say_much(&mut world, 300);
    world.judge("the beginning");
    let length: usize = run(&mut world.rig.connect(), "XLEN task_events");
    assert_eq!(length, world.stream().entries.len(), "off by default");
    assert_eq!(looks(&mut world, "trim::begin"), 0);
    finish(&mut world);
}

#[test]
fn trim_never_goes_ahead_of_another_groups_need() {
    let Some(rig) = Rig::redis() else { return };
    let mut world = World::on(rig.set("TRIM", "published"), Source::Redis, seed("another_groups_need"));
    let mut redis = world.rig.connect();
    run::<()>(&mut redis, "XGROUP CREATE task_events other 0 MKSTREAM");
    run::<()>(&mut redis, "XGROUP CREATE task_events third 0");
    world.start_owner();
    world.arm(&format!("{OFTEN};trim::done=sleep(1)"));
    say_much(&mut world, 1200);
    eventually("all is published", || world.is_published());
    let ids: Vec<Id> = world.stream().entries.iter().map(|entry| entry.id).collect();
    let before = looks(&mut world, "trim::done");
    eventually("it looks for what may go", || looks(&mut world, "trim::done") > before + 2);
    assert_eq!(first(&world), Some(ids[0]), "nothing was given to the others yet");
    // One group was given 900, and has one of them pending; the other was given 600.
    run::<redis::Value>(&mut redis, "XREADGROUP GROUP other o COUNT 900 STREAMS task_events >");
    run::<redis::Value>(&mut redis, "XREADGROUP GROUP third t COUNT 600 NOACK STREAMS task_events >");
    for (at, id) in ids[..900].iter().enumerate().filter(|(at, _)| *at != 400) {
        let acked: i64 = run(&mut redis, &format!("XACK task_events other {id}"));
        assert_eq!(acked, 1, "{at}");
    }
    let left = |world: &World| -> usize { run(&mut world.rig.connect(), "XLEN task_events") };
    // Nodes hold 100 entries.
    for (needed, then) in [(400, "XACK task_events other"), (599, "XGROUP SETID task_events third $"), (899, "")] {
        eventually("what nobody needs goes", || left(&world) <= ids.len() - needed + 100);
        let before = looks(&mut world, "trim::done");
        eventually("it looks again", || looks(&mut world, "trim::done") > before + 2);
        assert!(first(&world) <= Some(ids[needed]), "{needed} is needed");
        assert!(left(&world) >= ids.len() - needed);
        match then {
            "" => {}
            ack if ack.starts_with("XACK") => drop(run::<i64>(&mut redis, &format!("{ack} {}", ids[400]))),
            move_on => run::<()>(&mut redis, move_on),
        }
    }
    run::<i64>(&mut redis, "XGROUP DESTROY task_events other");
    eventually("only ours is left", || left(&world) <= 100);
    world.judge("trimming");
    finish(&mut world);
}

#[test]
fn trim_never_passes_what_a_dead_letter_refers_to() {
    on_both("trim_never_passes_a_letter", |mut world| {
        world.rig = std::mem::replace(&mut world.rig, Rig::embedded()).set("DEAD_LETTER_PAYLOAD", "digest");
        world.start_owner();
        world.arm(&format!("{OFTEN};trim::done=sleep(1)"));
        // Each burst has one letter; the first is of the first burst.
        world.feed(30);
        eventually("it is buried", || world.is_published());
        let ls = world.rig.command(&["dlq", "ls", "--json"]).output().unwrap();
        let text = String::from_utf8_lossy(&ls.stdout).into_owned();
        let letter: serde_json::Value = serde_json::from_str(text.lines().next().expect("a letter")).unwrap();
        let id = letter["id"].as_str().unwrap().to_owned();
        say_much(&mut world, 900);
        eventually("all is published", || world.is_published());
        let before = looks(&mut world, "trim::done");
        eventually("it looks for what may go", || looks(&mut world, "trim::done") > before + 2);
        assert!(first(&world) <= Id::parse(&id), "the letter's text stands there only");
        let shown = world.rig.command(&["dlq", "show", &id]).output().unwrap();
        assert!(String::from_utf8_lossy(&shown.stdout).contains("\ndata: "), "{shown:?}");
        let purged = world.rig.command(&["dlq", "purge", "--all", "--yes"]).output().unwrap();
        assert!(purged.status.success(), "{purged:?}");
        eventually("it goes with the letter", || {
            world.feed(30);
            world.rig.command(&["dlq", "purge", "--all", "--yes"]).output().unwrap();
            first(&world) > Id::parse(&id)
        });
        world.node.take().unwrap().terminate();
    });
}

#[test]
fn trim_leaves_a_stream_alone_that_took_the_place_of_the_one_that_was_read() {
    let Some(rig) = Rig::redis() else { return };
    let mut world = World::on(rig.set("TRIM", "published"), Source::Redis, seed("another_stream"));
    world.start_owner();
    world.arm(&format!("{OFTEN};trim::done=sleep(1)"));
    say_much(&mut world, 300);
    eventually("it trims", || trimmed(world.node()) > 0.0);
    // Nothing is read while the stream is replaced by a longer one, whose ids begin below and end above the old ones.
    world.arm(&format!("{OFTEN};trim::done=sleep(1);read::before=return(EIO)"));
    eventually("nothing is read", || looks(&mut world, "read::before") > 0);
    let mut redis = world.rig.connect();
    let last = Id::parse(&crate::rig::last_id(&mut redis)).unwrap();
    let data = json!({"content": "x"}).to_string();
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("DEL").arg("task_events").ignore();
    for n in 1..=2000_u64 {
        let id = if n < 1900 { format!("{n}-1") } else { format!("{}-{n}", last.0 + 1) };
        pipe.cmd("XADD").arg("task_events").arg(id).arg("type").arg("task:output").arg("task_id").arg("new");
        pipe.arg("data").arg(&data).ignore();
    }
    pipe.cmd("XGROUP").arg("CREATE").arg("task_events").arg("task-logger").arg(last.to_string()).ignore();
    pipe.exec(&mut redis).unwrap();
    let before = looks(&mut world, "trim::done");
    eventually("it looks for what may go", || looks(&mut world, "trim::done") > before + 3);
    let length: usize = run(&mut redis, "XLEN task_events");
    assert_eq!(length, 2000, "nobody has read these");
    assert!(world.node().log().contains("the stream is not the one that was read"));
    world.node.take().unwrap().terminate();
}

#[test]
fn verify_judges_what_trimming_left_and_still_finds_a_planted_defect() {
    on_both("verify_judges_what_trimming_left", |mut world| {
        world.start_owner();
        world.arm(OFTEN);
        say_much(&mut world, 900);
        eventually("it trims", || trimmed(world.node()) > 0.0);
        world.say("mine");
        world.judge("trimming");
        world.node.take().unwrap().terminate();
        let path = world.rig.logs().join("mine/03-agent-output.jsonl");
        let line = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{line}{line}")).unwrap();
        let kinds = verify(&world.rig, &[])["by_kind"].to_string();
        assert!(kinds.contains("doubled"), "{kinds}");
    });
}
