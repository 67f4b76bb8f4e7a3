//! The service under test, as a process: started, measured, ended.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A running service.
pub(crate) struct Service {
    child: Child,
    log: PathBuf,
    port: u16,
}

/// Fails unless every entry stands exactly once in the folder's logs.
pub(crate) fn verify(redis_url: &str, dir: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_task-logger"));
    command.arg("verify").env_clear().env("REDIS_URL", redis_url).env("LOGS_DIR", dir.join("logs"));
    let ran = command.output().unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{told}{}", String::from_utf8_lossy(&ran.stderr));
    println!("    verify: {}", told.lines().find(|line| line.contains("entries up to")).unwrap_or_default());
}

impl Service {
    /// Starts it on a Redis server, or on a stream of its own; compiled plugins are kept between runs.
    pub(crate) fn start(redis_url: Option<&str>, dir: &Path, plugins: &Path, batch: Option<&str>) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = dir.join("service.log");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_task-logger"));
        command
            .arg("serve")
            .env_clear()
            .env("LOGS_DIR", dir.join("logs"))
            .env("STREAM_DIR", dir.join("stream"))
            .env("CACHE_DIR", target.join("bench-cache"))
            .env("PLUGINS_DIR", plugins)
            .env("PORT", port.to_string())
            // All followers of a bench come from one address.
            .env("CLIENT_STREAMS", "100000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap());
        if let Some(url) = redis_url {
            command.env("REDIS_URL", url);
        }
        if let Some(batch) = batch {
            command.env("MAX_BATCH_SIZE", batch);
        }
        Self { child: command.spawn().unwrap(), log, port }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it serves logs.
    pub(crate) fn wait_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while ureq::get(format!("http://127.0.0.1:{}/ready", self.port)).call().is_err() {
            assert!(Instant::now() < deadline, "not ready\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident memory now.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.of_status("VmRSS:")
    }

    /// Bytes that it has read, from files and sockets.
    pub(crate) fn bytes_read(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    fn of_status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until nothing is in flight any more.
    pub(crate) fn wait_applied(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.metric("task_logger_queue_depth") != Some(0.0) {
            assert!(Instant::now() < deadline, "not drained\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Prints what the plugins cost by the host's own clock.
    pub(crate) fn print_plugin_cost(&self, plugins: &[&str]) {
        for plugin in plugins {
            let of = |name: &str| self.metric(&format!("{name}{{plugin=\"{plugin}\"}}"));
            let seconds = of("task_logger_plugin_seconds_sum").unwrap_or(0.0);
            let calls = of("task_logger_plugin_seconds_count").unwrap_or(1.0);
            let events: f64 = self
                .series()
                .iter()
                .filter(|(series, _)| {
                    series.starts_with("task_logger_plugin_events_total") && series.contains(&format!("\"{plugin}\""))
                })
                .map(|(_, value)| value)
                .sum();
            println!(
                "    {plugin}: {:.2} µs/event, {:.1} events a call",
                seconds * 1e6 / events.max(1.0),
                events / calls.max(1.0)
            );
        }
    }

    fn metric(&self, series: &str) -> Option<f64> {
        self.series().get(series).copied()
    }

    fn series(&self) -> BTreeMap<String, f64> {
        let url = format!("http://127.0.0.1:{}/metrics?format=prometheus", self.port);
        let text = ureq::get(&url).call().ok().and_then(|mut reply| reply.body_mut().read_to_string().ok());
        let text = text.unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        lines.filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?))).collect()
    }

    /// Peak of resident memory.
    pub(crate) fn peak_rss_mib(&self) -> u64 {
        self.of_status("VmHWM:") / 1024
    }

    /// CPU time by thread name, in microseconds per event.
    pub(crate) fn cpu_by_stage(&self, events: usize) -> String {
        let mut stages: BTreeMap<String, Duration> = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap() {
            let task = task.unwrap().path();
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default().trim().to_owned();
            *stages.entry(name).or_default() += cpu(&fs::read_to_string(task.join("stat")).unwrap_or_default());
        }
        let per_event = |time: Duration| time.as_secs_f64() * 1e6 / events as f64;
        let mut text = format!("{:.1} =", stages.values().copied().map(per_event).sum::<f64>());
        for (name, time) in stages.into_iter().filter(|(_, time)| per_event(*time) >= 0.05) {
            text.push_str(&format!(" {name} {:.2}", per_event(time)));
        }
        text
    }

    /// Ends it in an orderly way.
    pub(crate) fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Already ended when all went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// CPU time of a process.
pub(crate) fn cpu_of(pid: u32) -> Duration {
    cpu(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default())
}

/// User and system time of a `stat` line, whose ticks are hundredths of a second on Linux.
fn cpu(stat: &str) -> Duration {
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
