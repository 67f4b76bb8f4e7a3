//! Every fault again and again, each run with a seed of its own, for as long as one likes: `make torture MINUTES=60`.
//!
//! The faults are those of the other tests; here they run in turn, shuffled, some side by side, each in a process of its own.
//! Whatever fails is printed with the command that repeats it, and at the end how often each fault struck.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::rig::{TALLY, seed};

/// Tests that hurt the service and judge what is left.
const FAULTS: [&str; 10] = [
    "draining::",
    "faults::crashes::",
    "faults::disk::",
    "faults::errors::",
    "faults::files::",
    "kills::",
    "power_loss::",
    "redis_faults::",
    "replicas::",
    "retention::",
];
/// Among these, what looks at the tests themselves, or at another file system.
const OTHERS: [&str; 2] = ["redis_faults::every_fault_has_a_test", "power_loss::power_loss_is_noticed"];
/// Between two lines that tell how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(60);

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn names() -> Vec<String> {
    let listed = Command::new(std::env::current_exe().unwrap()).args(["--list", "--format", "terse"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let is_fault = |name: &&str| {
        FAULTS.iter().any(|fault| name.starts_with(fault)) && !OTHERS.iter().any(|other| name.starts_with(other))
    };
    names.filter(is_fault).map(str::to_owned).collect()
}

fn run(name: &str, seed: u64, tally: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("SEED", seed.to_string())
        .env(TALLY, tally)
        .output()
        .unwrap()
}

/// How often each line stands in the tally.
fn counted(tally: &Path) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(tally).unwrap_or_default();
    let mut counts = BTreeMap::new();
    text.lines().for_each(|line| *counts.entry(line.to_owned()).or_default() += 1);
    counts
}

#[test]
#[ignore = "runs for MINUTES, by `make torture`"]
fn torture() {
    let (minutes, lanes) = (number("MINUTES", 5), number("LANES", 4));
    let mut rng = Rng::with_seed(seed("torture"));
    let names = names();
    assert!(names.len() > 40, "{names:?}");
    let folder = tempfile::tempdir().unwrap();
    let tally = folder.path().join("tally");
    let (started, limit) = (Instant::now(), Duration::from_secs(minutes * 60));
    let left = Mutex::new(Vec::<String>::new());
    let runs = Mutex::new(BTreeMap::<String, usize>::new());
    let failed = Mutex::new(Vec::<String>::new());
    let (told, going) = (Mutex::new(Instant::now()), AtomicUsize::new(0));
    let source = Mutex::new(&mut rng);
    let next = || {
        let mut left = left.lock().unwrap();
        let mut rng = source.lock().unwrap();
        if left.is_empty() {
            // Each comes once before any comes again.
            left.clone_from(&names);
            rng.shuffle(&mut left);
        }
        (left.pop().unwrap(), rng.u64(..))
    };
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while started.elapsed() < limit {
                    let (name, seed) = next();
                    going.fetch_add(1, Ordering::Relaxed);
                    let output = run(&name, seed, &tally);
                    *runs.lock().unwrap().entry(name.clone()).or_default() += 1;
                    if !output.status.success() {
                        let said = String::from_utf8_lossy(&output.stderr);
                        let again = format!("SEED={seed} make test ARGS='--exact {name}'");
                        eprintln!("FAILED {name}: {}\n{said}\nagain: {again}", output.status);
                        failed.lock().unwrap().push(again);
                    }
                    let mut told = told.lock().unwrap();
                    if told.elapsed() >= TOLD_EVERY {
                        *told = Instant::now();
                        let killed = counted(&tally).get("kill -9").copied().unwrap_or(0);
                        let (minutes, count) = (started.elapsed().as_secs() / 60, going.load(Ordering::Relaxed));
                        let failures = failed.lock().unwrap().len();
                        eprintln!("{minutes} min: {count} runs, {killed} times kill -9, {failures} failures");
                    }
                }
            });
        }
    });
    println!("\nruns of each test:");
    runs.into_inner().unwrap().iter().for_each(|(name, count)| println!("{count:6}  {name}"));
    println!("\ntimes that each fault struck:");
    let counts = counted(&tally);
    counts.iter().for_each(|(fault, count)| println!("{count:6}  {fault}"));
    let failed = failed.into_inner().unwrap();
    println!(
        "\n{} minutes, {} runs, {} times kill -9, {} faults, the rarest {} times, {} failures",
        started.elapsed().as_secs() / 60,
        going.into_inner(),
        counts.get("kill -9").copied().unwrap_or(0),
        counts.len(),
        counts.values().min().copied().unwrap_or(0),
        failed.len()
    );
    assert!(failed.is_empty(), "{failed:#?}");
}
