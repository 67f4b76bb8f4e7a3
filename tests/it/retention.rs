//! What `RETAIN`, `RETAIN_IDLE` and `RETAIN_BYTES` remove, and above all what they do not: what is young, what goes on, what
//! another stream's owner may be writing. What was removed comes back by nothing, and a task that goes on says so.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    checker::verify,
    faults::{
        disk::Small,
        world::{AGED, Source, World, age, age_all},
    },
    load::entry,
    rig::{Node, Rig, eventually, seed, within},
};

const OFTEN: &str = "retention::every=return(50)";
const HOUR: Duration = Duration::from_secs(3600);
/// Some walks.
const AWHILE: Duration = Duration::from_millis(600);

/// Worlds on both streams.
fn on_both(test: &str, set: impl Fn(Rig) -> Rig, case: impl Fn(World)) {
    case(world(test, set(Rig::embedded()), Source::Embedded));
    if let Some(rig) = Rig::redis() {
        case(world(test, set(rig), Source::Redis));
    }
}

fn world(test: &str, rig: Rig, source: Source) -> World {
    let mut world = World::on(rig, source, seed(test));
    world.always(OFTEN);
    world.start_owner();
    world
}

/// Tasks and flows removed by a process.
pub(crate) fn removed(node: &Node) -> f64 {
    let metrics = node.metrics();
    let value = metrics.lines().find_map(|line| line.strip_prefix("task_logger_tasks_removed_total "));
    value.and_then(|value| value.parse().ok()).expect("it is counted from the start")
}

fn put(world: &mut World, fields: &[(&str, &str)]) {
    world.send(vec![entry(fields)]);
}

fn ended(world: &mut World, task: &str) {
    world.say(task);
    put(world, &[("type", "task:completed"), ("task_id", task), ("data", "{\"result\":\"r\"}")]);
}

fn is_there(world: &World, dir: &str) -> bool {
    world.rig.logs().join(dir).try_exists().unwrap()
}

/// Makes these so old while no process is there that could write to them.
fn aged(world: &mut World, dirs: &[(&str, Duration)]) {
    eventually("all is published", || world.is_published());
    world.node.take().unwrap().terminate();
    for (dir, by) in dirs {
        assert!(age(&world.rig, dir, *by), "{dir} has no .state");
    }
    world.start_owner();
}

/// Makes it so old, after each checkpoint anew, until it is gone.
#[track_caller]
fn goes(world: &World, dir: &str, by: Duration) {
    eventually("what is old goes", || {
        age(&world.rig, dir, by);
        !is_there(world, dir)
    });
}

/// Ends the process and judges what it left.
fn finish(world: &mut World) -> Value {
    world.judge("removing");
    world.node.take().unwrap().terminate();
    assert_eq!(world.defects(), []);
    verify(&world.rig, &[])
}

#[test]
fn retention_removes_what_is_old_and_nothing_else() {
    let set = |rig: Rig| rig.set("RETAIN", "1h").set("RETAIN_IDLE", "3h");
    on_both("retention_removes_what_is_old", set, |mut world| {
        ended(&mut world, "old");
        ended(&mut world, "young");
        ended(&mut world, "joined");
        world.say("running");
        put(&mut world, &[("type", "webhook:received"), ("webhook_event_id", "alone"), ("data", "{}")]);
        put(
            &mut world,
            &[("type", "webhook:received"), ("webhook_event_id", "w"), ("data", "{\"task_id\":\"joined\"}")],
        );
        let ages = [
            ("old", HOUR * 2),
            ("young", HOUR / 2),
            ("joined", HOUR / 2),
            ("_webhooks/w", HOUR * 2),
            ("running", HOUR * 2),
            ("_webhooks/alone", HOUR * 2),
        ];
        aged(&mut world, &ages);
        eventually("what ended long ago goes", || !is_there(&world, "old"));
        assert_eq!(world.node().get("/tasks/old/logs").0, 404);
        within(AWHILE, || false);
        for (dir, _) in &ages[1..] {
            assert!(is_there(&world, dir), "{dir}: its time is not over, or its task is there");
        }
        for dir in ["running", "_webhooks/alone", "joined"] {
            goes(&world, dir, HOUR * 4);
        }
        eventually("what is left of its flow follows a task", || !is_there(&world, "_webhooks/w"));
        assert!(is_there(&world, "young"));
        eventually("each is counted", || removed(world.node()) == 5.0);
        let verdict = finish(&mut world);
        assert!(verdict["unknown"].to_string().contains("that retention removed"), "{verdict}");
        world.start_owner();
        world.say("young");
        let verdict = finish(&mut world);
        assert!(verdict["unknown"].to_string().contains("that retention removed"), "also after a restart: {verdict}");
    });
}

#[test]
fn retention_is_off_unless_it_is_asked_for() {
    on_both(
        "retention_is_off",
        |rig| rig,
        |mut world| {
            ended(&mut world, "old");
            aged(&mut world, &[("old", AGED)]);
            within(AWHILE, || false);
            assert!(is_there(&world, "old"));
            finish(&mut world);
        },
    );
}

#[test]
fn a_late_event_makes_a_directory_that_is_marked_as_resumed() {
    let set = |rig: Rig| rig.with_bundled(&["usage"]).set("RETAIN", "1h").set("RETAIN_IDLE", "1h");
    on_both("a_late_event_makes_a_directory", set, |mut world| {
        let metadata = |world: &World, task: &str| -> Value {
            serde_json::from_str(&world.rig.read(&format!("{task}/metadata.json"))).unwrap()
        };
        put(&mut world, &[("type", "task:output"), ("task_id", "t"), ("data", "{\"content\":\"x\"}")]);
        ended(&mut world, "t");
        world.say("other");
        put(&mut world, &[("type", "webhook:received"), ("webhook_event_id", "w"), ("data", "{}")]);
        let flow = [("type", "webhook:x"), ("webhook_event_id", "v"), ("data", "{\"task_id\":\"t\"}")];
        put(&mut world, &flow);
        aged(&mut world, &[("t", Duration::ZERO)]);
        let ghost = world.rig.root().join("ghost");
        copy(&world.rig.logs().join("t"), &ghost);
        eventually("all goes", || {
            age_all(&world.rig, AGED);
            !["t", "other", "_webhooks/w", "_webhooks/v"].iter().any(|dir| is_there(&world, dir))
        });
        for round in 0..2 {
            if round == 1 {
                // As a process sees it that was not there.
                world.node.take().unwrap().kill();
                world.start_owner();
            }
            let tasks = [["t", "u"], ["other", "v"]][round];
            tasks.iter().for_each(|task| world.say(task));
            put(&mut world, &[("type", "webhook:received"), ("webhook_event_id", ["w", "v"][round]), ("data", "{}")]);
            world.judge("late events");
            eventually("they stand there", || {
                tasks.iter().all(|task| is_there(&world, &format!("{task}/metadata.json")))
            });
            let (late, new) = (metadata(&world, tasks[0]), metadata(&world, tasks[1]));
            assert_eq!((&late["resumed"], &new["resumed"]), (&Value::Bool(true), &Value::Null), "{late} {new}");
            assert_eq!((&late["status"], &late["completed_at"]), (&Value::from("running"), &Value::Null));
            let lines = world.rig.read(&format!("{}/03-agent-output.jsonl", tasks[0]));
            assert_eq!(lines.lines().count(), 1, "no hole and no ghost: {lines}");
            assert!(!is_there(&world, &format!("{}/04-final-result.json", tasks[0])));
        }
        eventually("what it had joined went with it", || is_there(&world, "_webhooks/v"));
        finish(&mut world);
        // What was removed, put back by a hand: verify knows that it must not be there.
        world.start_owner();
        world.say("t");
        goes(&world, "t", AGED);
        finish(&mut world);
        copy(&ghost, &world.rig.logs().join("t"));
        let verdict = verify(&world.rig, &[]);
        assert!(verdict["findings"].to_string().contains("was removed by retention"), "{verdict}");
    });
}

#[test]
fn retain_bytes_removes_the_oldest_that_have_ended() {
    on_both(
        "retain_bytes_removes_the_oldest",
        |rig| rig,
        |mut world| {
            let large = serde_json::json!({"content": "x".repeat(600 << 10)}).to_string();
            let names: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
            for task in &names {
                put(&mut world, &[("type", "task:output"), ("task_id", task), ("data", &large)]);
                ended(&mut world, task);
            }
            put(&mut world, &[("type", "task:output"), ("task_id", "running"), ("data", &large)]);
            world.rig = std::mem::replace(&mut world.rig, Rig::embedded()).set("RETAIN_BYTES", "4MiB");
            let mut ages: Vec<_> = (0..).zip(&names).map(|(n, task)| (task.as_str(), HOUR * (10 - n))).collect();
            ages.push(("running", HOUR * 20));
            aged(&mut world, &ages);
            eventually("the oldest go", || !is_there(&world, "t2"));
            within(AWHILE, || false);
            let there: Vec<_> = names.iter().filter(|task| is_there(&world, task)).collect();
            assert_eq!(there, ["t3", "t4", "t5", "t6", "t7"], "no more than must");
            assert!(is_there(&world, "running"), "it has not ended");
            for _ in 0..7 {
                put(&mut world, &[("type", "task:output"), ("task_id", "running"), ("data", &large)]);
            }
            eventually("all that ended goes", || !names.iter().any(|task| is_there(&world, task)));
            eventually("it is said that this is not enough", || {
                world.node().json("/health")["notices"]["retention"].to_string().contains("more than RETAIN_BYTES")
            });
            assert!(is_there(&world, "running"));
            finish(&mut world);
        },
    );
}

#[test]
fn nothing_is_removed_where_another_stream_has_the_same_folder() {
    on_both(
        "another_stream_has_the_same_folder",
        |rig| rig.set("RETAIN", "1h"),
        |mut world| {
            let other = world.rig.logs().join(".task-logger/redis-another");
            fs::create_dir(&other).unwrap();
            ended(&mut world, "old");
            aged(&mut world, &[("old", AGED)]);
            eventually("it is said", || {
                world.node().json("/health")["notices"]["retention"].to_string().contains("redis-another")
            });
            within(AWHILE, || false);
            assert!(is_there(&world, "old"));
            fs::remove_dir(other).unwrap();
            eventually("it goes", || !is_there(&world, "old"));
            eventually("nothing is said any more", || world.node().json("/health")["notices"]["retention"].is_null());
            finish(&mut world);
        },
    );
}

/// What is no task's, and what cannot be moved, stays where it is, and stops nothing.
#[test]
fn retention_spares_what_is_not_the_services_and_what_cannot_go() {
    let set = |rig: Rig| rig.set("RETAIN", "1h").set("RETAIN_IDLE", "1h").set("RETAIN_BYTES", "1MiB");
    on_both("retention_spares_what_is_not", set, |mut world| {
        let logs = world.rig.logs();
        ended(&mut world, "mounted");
        ended(&mut world, "old");
        aged(&mut world, &[("mounted", Duration::ZERO), ("old", Duration::ZERO)]);
        fs::create_dir(logs.join("archive")).unwrap();
        fs::write(logs.join("archive/precious"), "x").unwrap();
        fs::File::open(logs.join("archive")).unwrap().set_modified(SystemTime::now() - AGED).unwrap();
        fs::write(logs.join("nohup.out"), "x").unwrap();
        std::os::unix::fs::symlink("/", logs.join("root")).unwrap();
        let mounted = logs.join("mounted");
        let before = world.rig.root().join("before");
        copy(&mounted, &before);
        let small = Small::over(&mounted, 8);
        copy(&before, &mounted);
        if small.is_some() {
            eventually("it is said what cannot be removed", || {
                age(&world.rig, "mounted", AGED);
                world.node().json("/health")["notices"]["retention"].to_string().contains("/mounted")
            });
        }
        goes(&world, "old", AGED);
        within(AWHILE, || false);
        for name in ["archive/precious", "nohup.out", "root/"] {
            assert!(is_there(&world, name), "{name}");
        }
        if small.is_some() {
            assert!(is_there(&world, "mounted/metadata.json"), "it is another file system's");
        }
        world.say("more");
        eventually("all else goes on", || is_there(&world, "more"));
        drop(small);
        for name in ["nohup.out", "root"] {
            fs::remove_file(logs.join(name)).unwrap();
        }
        fs::remove_dir_all(logs.join("archive")).unwrap();
        finish(&mut world);
    });
}

/// What a flow's lane wrote into a task goes with the task, whatever the task's own lane knows of it.
#[test]
fn what_flows_gave_to_tasks_goes_with_these() {
    let set = |rig: Rig| rig.set("RETAIN", "1h").set("RETAIN_IDLE", "1h");
    on_both("what_flows_gave_to_tasks", set, |mut world| {
        let names = |what: &str| -> Vec<String> { (0..6).map(|n| format!("{what}{n}")).collect() };
        let (tasks, flows, others) = (names("t"), names("w"), names("other"));
        for ((task, flow), other) in tasks.iter().zip(&flows).zip(&others) {
            let names_task = |task: &str| serde_json::json!({ "task_id": task }).to_string();
            let hook = |kind: &'static str, data: &str| {
                vec![entry(&[("type", kind), ("webhook_event_id", flow), ("data", data)])]
            };
            world.send(hook("webhook:received", "{}"));
            world.send(hook("webhook:task_created", &names_task(task)));
            ended(&mut world, task);
            world.send(hook("response:sent", "{}"));
            world.send(hook("webhook:payload", &names_task(other)));
        }
        eventually("all is published", || world.is_published());
        // Published before it is applied; what has not come yet has not gone.
        world.node.take().unwrap().terminate();
        world.start_owner();
        for task in &tasks {
            goes(&world, task, AGED);
        }
        world.judge("the tasks went");
        for flow in &flows {
            goes(&world, &format!("_webhooks/{flow}"), AGED);
        }
        world.judge("the flows went");
        for other in &others {
            assert!(is_there(&world, &format!("{other}/02-webhook-flow.jsonl")), "another task's stay with that one");
        }
        finish(&mut world);
    });
}

#[test]
fn a_paused_owner_that_wakes_removes_nothing_that_came_since() {
    let Some(rig) = Rig::redis() else { return };
    let mut world = world("a_paused_owner_removes_nothing", rig.set("RETAIN", "1h"), Source::Redis);
    ended(&mut world, "t");
    aged(&mut world, &[("t", Duration::ZERO)]);
    world.arm("apply::clear=1*stop->off");
    eventually("it stops where it would take the directory away", || {
        age(&world.rig, "t", AGED);
        world.node().log().contains("name=\"apply::clear\"")
    });
    let first = world.node.take().unwrap();
    world.arm("");
    // What the first had published stands in the journal: the second removes it.
    world.start_owner();
    eventually("the second has removed it", || !is_there(&world, "t"));
    world.say("t");
    eventually("it goes on", || is_there(&world, "t/metadata.json"));
    first.resume();
    eventually("the first finds that it was replaced", || first.json("/health")["role"] == "standby");
    world.judge("waking");
    assert!(world.rig.read("t/metadata.json").contains("\"resumed\": true"));
    first.terminate();
    finish(&mut world);
}

#[test]
fn retention_under_load_and_kills_leaves_what_came_after_it() {
    // A kill leaves the page cache, so that nothing is lost with any of them.
    let fsync = ["always", "interval:20", "never"][(seed("retention_under_load_and_kills") % 3) as usize];
    let set = |rig: Rig| {
        let rig = rig.with_bundled(&["usage"]).set("RETAIN", "1h").set("RETAIN_IDLE", "1h");
        rig.set("HOLD_MAX", "50ms").set("FSYNC", fsync)
    };
    on_both("retention_under_load_and_kills", set, |mut world| {
        world.ages = true;
        let mut total = 0.0;
        for round in 0..6 {
            for _ in 0..12 {
                world.feed(25);
                within(Duration::from_millis(world.rng.u64(0..60)), || false);
            }
            total += removed(world.node());
            if round % 2 == 0 {
                world.node.take().unwrap().kill();
                world.start_owner();
            }
            world.judge("a round");
        }
        assert!(total > 20.0, "{total} removed");
        finish(&mut world);
    });
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
