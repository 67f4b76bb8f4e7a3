//! A file system that is really full: under load, for `TASK_LOGGER_FULL_SECONDS` (some seconds if it is not set), then freed.

use std::{
    fs,
    io::Write,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::world::{Source, World};
use crate::{
    redis_server::RedisServer,
    rig::{Rig, eventually, let_pass, seed, struck},
};

/// A small file system over a folder, for as long as this lives.
pub(crate) struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    /// `None` after a message where this user may mount nothing.
    pub(crate) fn over(folder: &'a Path, megabytes: u32) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=0755"), "tmpfs"]).arg(folder);
        match mount.output() {
            Ok(done) if done.status.success() => Some(Self(folder)),
            _ => {
                eprintln!("SKIPPED: a file system of limited size cannot be mounted here (it needs root)");
                None
            }
        }
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

/// Takes all the room there is, and returns what takes it.
fn fill(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("balloon");
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
    for size in [1 << 20, 4096, 1] {
        let piece = vec![0; size];
        while file.write_all(&piece).is_ok() {}
    }
    path
}

fn full_and_freed(test: &str, source: Source) {
    let seed = seed(test);
    let seconds = std::env::var("TASK_LOGGER_FULL_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let server = match source {
        Source::Redis => match RedisServer::start() {
            Some(server) => Some(server),
            None => return,
        },
        Source::Embedded => None,
    };
    let mut rig = Rig::embedded();
    let root = rig.root().to_owned();
    // Over the rig's whole folder: logs, state, stream.
    let Some(_small) = Small::over(&root, 300) else { return };
    fs::create_dir(rig.plugins_dir()).unwrap();
    if let Some(server) = server {
        rig = rig.on_server(server);
    }
    let mut world = World::on(rig, source, seed);
    world.start_owner();
    world.feed(500);
    world.judge("the beginning");
    let mut blocked = 0;
    let until = Instant::now() + Duration::from_secs(seconds);
    let balloon = fill(&root);
    while Instant::now() < until || blocked == 0 {
        assert!(Instant::now() < until + crate::rig::PATIENCE, "it takes events on a full disk");
        world.feed(100);
        let_pass(Duration::from_millis(50));
        // Whatever was given back is taken again.
        fill(&root);
        let (status, answer) = world.node().get("/ready?write");
        assert!(status == 200 || status == 503, "{status}: {answer}");
        blocked += usize::from(status == 503);
        assert!(world.node().is_running(), "{}", world.node().log());
    }
    assert_eq!(world.node().get("/ready?write").0, 503, "still full");
    fs::remove_file(balloon).unwrap();
    eventually("it takes events in by itself", || world.node().takes_events());
    world.feed(100);
    world.judge("a full disk");
    world.end();
    struck(&format!("{source:?}: a full disk"));
}

#[test]
fn a_full_disk_is_waited_for_on_redis() {
    full_and_freed("a_full_disk_is_waited_for_on_redis", Source::Redis);
}

#[test]
fn a_full_disk_is_waited_for_on_the_embedded_stream() {
    full_and_freed("a_full_disk_is_waited_for_on_the_embedded_stream", Source::Embedded);
}
