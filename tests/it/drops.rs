//! What a dropped file costs: the time until it is live, cold and from the cache, and the service's memory.

use std::{
    fs,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use task_logger::plugin::PluginHost;

use crate::{
    guests::{Stage, misbehave},
    rig::{Node, Rig, bundled, eventually, target_dir},
};

/// Whether the figures are to hold, on a machine that does nothing else.
fn strict() -> bool {
    std::env::var_os("TASK_LOGGER_MEASURE").is_some()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// With a custom section of this many bytes: other bytes, the same code.
fn padded(wasm: &[u8], n: u32, bytes: usize) -> Vec<u8> {
    let leb = |mut n: usize| {
        let mut out = Vec::new();
        loop {
            let byte = (n & 0x7f) as u8;
            n >>= 7;
            out.push(if n == 0 { byte } else { byte | 0x80 });
            if n == 0 {
                return out;
            }
        }
    };
    let mut body = vec![3, b'p', b'a', b'd'];
    body.extend(n.to_le_bytes());
    body.resize(body.len() + bytes, 0);
    [wasm, &[0], &leb(body.len()), &body].concat()
}

/// Percentiles of times, for people.
fn shown(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.0} ms, p99 {:.0} ms, {} times", ms(at(50)), ms(at(99)), times.len());
    at(50)
}

/// Drops a file and waits until it is live.
fn drop_to_live(stage: &Stage, host: &PluginHost, stem: &str, wasm: &[u8], sidecar: Option<&str>) -> Duration {
    let sha256 = hex(wasm);
    if let Some(sidecar) = sidecar {
        stage.put_bytes(&format!("{stem}.toml"), format!("sha256 = '{sha256}'\n{sidecar}").as_bytes());
    }
    let mut seen = host.wait_changed(0, Duration::ZERO);
    let began = Instant::now();
    stage.put_bytes(&format!("{stem}.wasm"), wasm);
    while !host.provenance().plugins.iter().any(|plugin| plugin.sha256 == sha256) {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", host.report());
        seen = host.wait_changed(seen, Duration::from_millis(100));
    }
    began.elapsed()
}

#[test]
fn a_dropped_component_is_live_soon() {
    let (wasm, sidecar) = bundled("redact");
    let sidecar = String::from_utf8(sidecar).unwrap();
    let mut stage = Stage::new().with_child();
    let host = stage.start();
    let size = |n| padded(&wasm, n, (1 << 20) - wasm.len().min(1 << 20));
    println!("redact, padded to {} KiB", size(0).len() >> 10);
    let times = |what: &str, range: std::ops::Range<u32>, sidecar: Option<&str>| {
        shown(what, range.map(|n| drop_to_live(&stage, &host, "redact", &size(n), sidecar)).collect())
    };
    stage.put_bytes("redact.toml", sidecar.as_bytes());
    let cold = times("drop to live, cold, component alone", 0..6, None);
    let cached = times("drop to live, from the cache, component alone", 0..6, None);
    let cold_pair = times("drop to live, cold, sidecar with sha256", 10..14, Some(&sidecar));
    let cached_pair = times("drop to live, from the cache, sidecar with sha256", 10..14, Some(&sidecar));
    let limits = if strict() { (1000, 200) } else { (30_000, 10_000) };
    for (time, limit) in [(cold, limits.0), (cold_pair, limits.0), (cached, limits.1), (cached_pair, limits.1)] {
        assert!(time <= Duration::from_millis(limit), "{time:?} is more than {limit} ms");
    }
}

#[test]
fn bundled_plugins_compile_soon() {
    for name in ["redact", "usage", "transcript"] {
        let (wasm, sidecar) = bundled(name);
        let mut stage = Stage::new().with_child();
        let began = |stage: &mut Stage| {
            let began = Instant::now();
            stage.start().stop();
            began.elapsed()
        };
        let empty = began(&mut stage);
        stage.put_bytes(&format!("{name}.toml"), &sidecar).put_bytes(&format!("{name}.wasm"), &wasm);
        let cold = began(&mut stage);
        let cached = (0..5).map(|_| began(&mut stage)).min().unwrap();
        let kib = wasm.len() >> 10;
        println!(
            "{name}, {kib} KiB: start without it {empty:.1?}, with it cold {cold:.1?}, from the cache {cached:.1?}"
        );
        let limits = if strict() { (1500, 20) } else { (60_000, 10_000) };
        let (cold, cached) = (cold.saturating_sub(empty), cached.saturating_sub(empty));
        assert!(cold <= Duration::from_millis(limits.0) && cached <= Duration::from_millis(limits.1));
    }
}

/// The guest with a second module that no one runs: `code` functions of half a KiB, and data to make 18 MB of it.
fn large() -> Vec<u8> {
    let function = format!(
        "(func (param i32) (result i32) {} (local.get 0))",
        "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 77)) (local.get 0)))".repeat(50)
    );
    let text = format!("(component (core module {}))", function.repeat(12_000));
    let component = wat::parse_str(text).unwrap();
    // Its one section behind the component's eight bytes.
    let all = [misbehave(), &component[8..]].concat();
    let missing = (18_500_000_usize).saturating_sub(all.len());
    padded(&all, 0, missing)
}

fn memory(node: &Node, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn drop_large(wasm: &[u8], sidecar: &str, what: &str) {
    let rig = Rig::embedded();
    // Of its own: what is measured is compiled.
    let cache = rig.root().join("cache");
    let rig = rig.set("CACHE_DIR", cache.to_str().unwrap());
    rig.put_guest("warm", "[config]\nname = 'warm'\nfiles = []\n");
    let node = rig.spawn();
    let state = |file: &str| {
        let report = node.json("/plugins");
        let plugins = report["plugins"].as_array().cloned().unwrap_or_default();
        plugins
            .iter()
            .find(|plugin| plugin["file"] == file)
            .map(|plugin| plugin["state"].to_string())
            .unwrap_or_default()
    };
    eventually("a plugin is live", || state("warm.wasm") == "\"live\"");
    // Highest from here on.
    fs::write(format!("/proc/{}/clear_refs", node.pid()), "5").unwrap();
    let before = memory(&node, "VmRSS:");
    let began = Instant::now();
    rig.put_plugin("large", sidecar.as_bytes(), wasm);
    eventually("the large one is live", || {
        assert_ne!(state("large.wasm"), "\"refused\"", "{:#}", node.json("/plugins"));
        state("large.wasm") == "\"live\""
    });
    let took = began.elapsed();
    let (peak, after) = (memory(&node, "VmHWM:") - before, memory(&node, "VmRSS:").saturating_sub(before));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{what}, {:.1} MB: live after {took:.1?}; resident memory before {:.0} MiB, at most {:.1} MiB more, then {:.1} MiB more",
        wasm.len() as f64 / 1e6,
        mib(before),
        mib(peak),
        mib(after)
    );
    assert!(mib(peak) <= 48.0, "{:.1} MiB more", mib(peak));
    node.terminate();
}

#[test]
fn a_large_component_costs_little_memory() {
    drop_large(&large(), "[config]\nname = 'large'\nfiles = []\n", "made-up component");
    let python = target_dir().join("conformance/python.wasm");
    // `make conformance-python` builds it.
    match fs::read(&python) {
        Ok(wasm) => drop_large(&wasm, "timeout = '5s'\n", "Python component"),
        Err(_) => println!("no {}: a Python component was not measured", python.display()),
    }
}
