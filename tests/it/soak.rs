//! `make soak`: millions of entries over very many tasks. Memory and open files are flat once it is warm, and whenever the
//! process is ended or killed the next one is ready at once.

use std::{
    env,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    checker::verify,
    overload::{append, done, limited, memory, open_files},
    rig::{Node, PATIENCE, Rig, let_pass, seed, within},
};

/// Longest time from a start until logs are served, and until events are taken in.
const READY_MAX: Duration = Duration::from_secs(2);
/// Most entries that wait: so that a rate is the service's, and no restart begins with a mountain.
const AHEAD: u64 = 20_000;
/// Flat: no later look finds more memory than at the second fifth by this part, and this much.
const GROWTH: (u64, u64) = (10, 16 << 10);
/// The limit of open files.
const FILES: usize = 1024;
/// The service keeps a task's files open until half of the limit is reached, then closes half of them: a look meets any number
/// below that. All else together is the same few descriptors for ever.
const OPEN_MAX: usize = FILES / 2 + 64;

/// What a look found.
struct Look {
    memory: u64,
    files: usize,
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Ends it, one way or the other, and starts the next; returns that, and what it took to serve and to take events in.
fn restart(rig: &Rig, mut node: Node, rng: &mut Rng) -> (Node, &'static str, Duration, Duration) {
    let how = if rng.bool() { "kill -9" } else { "SIGTERM" };
    if how == "SIGTERM" {
        node.ask_to_end();
        assert!(within(PATIENCE, || node.ended().is_some()), "it does not end:\n{}", node.log());
    }
    drop(node);
    let begin = Instant::now();
    let node = rig.spawn_under(&limited(FILES));
    assert!(within(PATIENCE, || node.get("/ready").0 == 200), "{}", node.log());
    let ready = begin.elapsed();
    assert!(within(PATIENCE, || node.get("/ready?write").0 == 200), "{}", node.log());
    (node, how, ready, begin.elapsed())
}

#[test]
#[ignore = "`make soak` runs it"]
fn soak() {
    let (entries, tasks) = (number("ENTRIES", 5_000_000), number("TASKS", 100_000));
    let Some(rig) = Rig::redis() else { return };
    let mut rng = Rng::with_seed(seed("soak"));
    let mut redis = rig.connect();
    let mut node = rig.spawn_under(&limited(FILES));
    assert!(within(PATIENCE, || node.takes_events()), "{}", node.log());
    // A fifth is a look apart. Restarts come in the first one and in the last: between them one process runs on.
    let fifth = (entries / 5).max(1);
    let restarts: Vec<u64> = [0, 4].iter().flat_map(|at| [*at; 5]).map(|at| at * fifth + rng.u64(..fifth)).collect();
    let (mut made, mut restarted) = (0, 0);
    let mut sorted = restarts;
    sorted.sort_unstable();
    let (mut looks, mut late): (Vec<Look>, Vec<Duration>) = (Vec::new(), Vec::new());
    let (mut since, begin) = (Instant::now(), Instant::now());
    while made < entries {
        let names: Vec<String> = (0..1000).map(|_| format!("task-{}", rng.u64(..tasks))).collect();
        let batch: Vec<(&str, &str)> = names.iter().map(|task| (&**task, "a line of what an agent says")).collect();
        append(&mut redis, &mut made, &batch);
        while sorted.get(restarted).is_some_and(|at| *at < made) {
            // In the middle of what it does.
            let_pass(Duration::from_millis(rng.u64(..300)));
            let (next, how, ready, writing) = restart(&rig, node, &mut rng);
            node = next;
            restarted += 1;
            println!(
                "at {made}: {how}; ready after {} ms, takes events in after {} ms",
                ready.as_millis(),
                writing.as_millis()
            );
            late.extend([ready, writing].into_iter().filter(|took| *took > READY_MAX));
        }
        assert!(
            within(PATIENCE, || done(&mut redis) + AHEAD >= made || !node.is_running()) && node.is_running(),
            "stands still:\n{}",
            node.log()
        );
        if made / fifth > (made - 1000) / fifth {
            let look = Look { memory: memory(node.pid(), "VmRSS"), files: open_files(node.pid()) };
            let rate = fifth as f64 / since.elapsed().as_secs_f64();
            since = Instant::now();
            println!("{made} entries: RSS {} MiB, open files {}, {rate:.0} entries/s", look.memory >> 10, look.files);
            looks.push(look);
        }
    }
    assert!(within(PATIENCE, || done(&mut redis) == made), "stands still:\n{}", node.log());
    println!("{made} entries over {tasks} tasks in {:.0} s, {restarted} restarts", begin.elapsed().as_secs_f64());
    node.terminate();
    let verdict = verify(&rig, &[]);
    println!("verify: {}", verdict["total"]);
    assert_eq!(verdict["total"], 0, "{verdict:.600}");
    assert!(late.is_empty(), "not ready within {READY_MAX:?}: {late:?}");
    // Warm is a process that has seen a fifth of it.
    let (first, later) = looks.get(1..).and_then(<[Look]>::split_first).expect("entries for five looks");
    for look in later {
        let most = first.memory + first.memory / GROWTH.0 + GROWTH.1;
        assert!(look.memory <= most, "memory grows: {} KiB, at most {most}", look.memory);
        assert!(look.files <= OPEN_MAX, "open files grow: {}, at most {OPEN_MAX}", look.files);
    }
}
