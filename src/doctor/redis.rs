//! The stream: whether the server can be reached and keeps what it is given, who owns the stream, how far it is read.

use super::{Level, Report, bytes};
use crate::{
    config::Config,
    source::{
        SourceError, Stream as _,
        redis::{Facts, RedisConfig, RedisStream},
    },
};

/// Seconds by which the clocks may differ.
const CLOCK_MAX: f64 = 1.0;
/// Entries behind which the group may be, as the alert has it.
const BEHIND_MAX: u64 = 1000;

pub(super) fn look(report: &mut Report, config: &Config) {
    let Some(redis) = RedisConfig::of(config) else {
        report.ok("stream", format!("the embedded stream in {}; Redis is not asked", config.stream_dir.display()));
        return;
    };
    let stream = match RedisStream::new(redis) {
        Ok(stream) => stream,
        Err(error) => return report.fail("redis", told(&error), "see REDIS_URL and REDIS_STREAM"),
    };
    let place = stream.describe();
    match stream.facts() {
        Ok(facts) => {
            report.ok("redis", format!("{place} answers"));
            judge(report, config, &facts);
        }
        Err(error) => report.fail("redis", format!("{place}: {}", told(&error)), unreached(&error)),
    }
}

fn told(error: &SourceError) -> String {
    crate::committer::describe(error)
}

fn unreached(error: &SourceError) -> &'static str {
    match error.is_fatal() {
        true => "see user, password and ACL: the service needs the stream's keys, INFO, TIME and transactions",
        false => {
            "start Redis, or see REDIS_URL and what is in between; meanwhile nothing is taken in, and nothing lost"
        }
    }
}

/// Everything that was seen, judged. Pure.
fn judge(report: &mut Report, config: &Config, facts: &Facts) {
    let info = |name: &str| facts.info.get(name).map(String::as_str);
    version(report, facts);
    match info("role") {
        Some("master") => match info("connected_slaves") {
            None | Some("0") => report.ok("redis-role", "master"),
            Some(n) => report.warn(
                "redis-role",
                format!("master with {n} replicas: what they have not yet got is lost in a fail-over"),
                "let producers use WAIT, or set min-replicas-to-write; the service reads what is there again from its position",
            ),
        },
        role => report.fail(
            "redis-role",
            format!("{}: it refuses writes", role.unwrap_or("unknown")),
            "point REDIS_URL to the master, or use redis-sentinel:// so that it is found",
        ),
    }
    if info("loading") == Some("1") {
        report.warn("redis", "it is loading its data and refuses commands", "wait until it has");
    }
    persistence(report, facts);
    memory(report, facts);
    clock(report, facts);
    stream(report, config, facts);
}

fn version(report: &mut Report, facts: &Facts) {
    let text = facts.info.get("redis_version").map_or("unknown", String::as_str);
    let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let name = match facts.info.get("valkey_version") {
        Some(valkey) => format!("Valkey {valkey}, as Redis {text}"),
        None => format!("Redis {text}"),
    };
    match found {
        (0..=5, _) | (6, 0..=1) => {
            report.fail("redis-version", format!("{name}: too old"), "use Redis 6.2 or newer, 7 for an exact lag");
        }
        (6, _) => report.warn(
            "redis-version",
            format!("{name}: it does not know a group's lag"),
            "7.0 or newer shows it exactly",
        ),
        _ => report.ok("redis-version", name),
    }
}

fn persistence(report: &mut Report, facts: &Facts) {
    const CHECK: &str = "redis-persistence";
    let config = |name: &str| facts.config.get(name).map(String::as_str);
    let info = |name: &str| facts.info.get(name).map(String::as_str);
    let append = config("appendonly").map_or_else(|| info("aof_enabled") == Some("1"), |value| value == "yes");
    match (append, config("appendfsync"), config("save")) {
        (true, Some("no"), _) => report.warn(
            CHECK,
            "appendonly yes, appendfsync no: a power loss takes what the system had not yet written, about 30 s",
            "CONFIG SET appendfsync everysec",
        ),
        (true, sync, _) => {
            report.ok(CHECK, format!("appendonly yes, appendfsync {}", sync.unwrap_or("not told")));
        }
        (false, _, Some("")) => report.fail(
            CHECK,
            "appendonly no, no snapshots: entries that are not yet read are gone after a restart of Redis",
            "CONFIG SET appendonly yes, and the same in its configuration file",
        ),
        (false, _, save) => report.warn(
            CHECK,
            format!(
                "appendonly no, snapshots only ({}): a restart of Redis loses what came since the last one",
                save.map_or("when is not told".to_owned(), |save| format!("save {save}"))
            ),
            "CONFIG SET appendonly yes, and the same in its configuration file",
        ),
    }
    for (name, what) in [("aof_last_write_status", "its append-only file"), ("rdb_last_bgsave_status", "a snapshot")] {
        if info(name) == Some("err") {
            report.fail(
                CHECK,
                format!("the last write of {what} failed: it may refuse writes"),
                "see its log and its disk",
            );
        }
    }
}

fn memory(report: &mut Report, facts: &Facts) {
    let number = |name: &str| facts.info.get(name).and_then(|text| text.parse::<u64>().ok());
    let policy = facts.config.get("maxmemory-policy").or(facts.info.get("maxmemory_policy"));
    let limit = number("maxmemory").unwrap_or(0);
    match policy.map(String::as_str) {
        Some("noeviction") => report.ok("redis-eviction", "noeviction"),
        None => report.warn("redis-eviction", "the policy is not told", "see to it that it is noeviction"),
        Some(policy) => {
            let (level, now) = match limit {
                0 => (Level::Warn, "without effect while maxmemory is 0"),
                _ => (Level::Fail, "it may throw the stream away, or the lease"),
            };
            report.add(
                "redis-eviction",
                level,
                format!("maxmemory-policy {policy}: {now}"),
                "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file",
            );
        }
    }
    let used = number("used_memory").unwrap_or(0);
    match limit {
        0 => report.ok("redis-memory", format!("{} used, no limit of its own", bytes(used))),
        limit => {
            let found = format!("{} used of {}", bytes(used), bytes(limit));
            let advice = "raise maxmemory or trim what all groups have read; a full server refuses new entries";
            match used.saturating_mul(10) / limit {
                0..=8 => report.ok("redis-memory", found),
                9 => report.warn("redis-memory", found, advice),
                _ => report.fail("redis-memory", found, advice),
            }
        }
    }
}

fn clock(report: &mut Report, facts: &Facts) {
    let Some((ahead, took)) = facts.clock else { return };
    let found = format!("Redis is {ahead:+.3} s from this machine, asked in {:.1} ms", took * 1000.0);
    // What the answer took says how exactly it is known.
    match ahead.abs() > CLOCK_MAX + took {
        true => report.warn(
            "clock",
            found,
            "run NTP on both: ages and lags are wrong by this much; order and ownership do not hang on it",
        ),
        false => report.ok("clock", found),
    }
}

fn stream(report: &mut Report, config: &Config, facts: &Facts) {
    let name = &config.stream;
    match (facts.kind.as_str(), &facts.group) {
        ("none", _) => report.ok("stream", format!("{name} is not there yet; the service makes it")),
        ("stream", None) => report.warn(
            "stream",
            format!("{name} has {} entries and no group {:?}", facts.length, config.group),
            "right before the first start: all of them will be read; else see REDIS_CONSUMER_GROUP",
        ),
        ("stream", Some(group)) => {
            let found = format!(
                "{name} has {} entries; group {:?} stands at {}, {} behind",
                facts.length, config.group, group.position, group.behind
            );
            match group.behind > BEHIND_MAX {
                true => report.warn("stream", found, "see whether it falls, and GET /ready?write if not"),
                false => report.ok("stream", found),
            }
            if group.pending > 0 {
                report.warn(
                    "stream",
                    format!("{} entries are pending in the group: others read from it, or did before", group.pending),
                    "before the first start they are adopted; later nobody else may use this group",
                );
            }
        }
        (kind, _) => report.fail(
            "stream",
            format!("{name} is a {kind}, not a stream"),
            "see REDIS_STREAM and the database in REDIS_URL, or remove that key",
        ),
    }
    let epoch = facts.epoch.unwrap_or(0);
    match &facts.lease {
        None => report.ok("owner", format!("nobody owns the stream now; last epoch {epoch}")),
        Some(lease) if lease.expires < 0 => report.fail(
            "owner",
            format!("the lease of {} does not expire", lease.host),
            "somebody made it persistent: see that this host runs no service, then delete the key",
        ),
        Some(lease) => report.ok(
            "owner",
            format!("{} since {}, epoch {epoch}, lease for {} ms", lease.host, lease.since, lease.expires),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Input, resolve};

    fn judged(info: &[(&str, &str)], config: &[(&str, &str)]) -> Report {
        let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let facts = Facts { info: texts(info), config: texts(config), kind: "none".into(), ..Facts::default() };
        let settings = resolve(&Input::from_env([("REDIS_URL", "redis://h")])).unwrap();
        let mut report = Report::default();
        judge(&mut report, &settings, &facts);
        report
    }

    fn level(report: &Report, check: &str) -> Level {
        report.findings.iter().filter(|finding| finding.check == check).map(|finding| finding.level).max().unwrap()
    }

    #[test]
    fn versions_are_told_apart() {
        for (version, expected) in [
            ("5.0.7", Level::Fail),
            ("6.0.16", Level::Fail),
            ("6.2.0", Level::Warn),
            ("7.0.15", Level::Ok),
            ("10.0", Level::Ok),
            ("?", Level::Fail),
        ] {
            assert_eq!(level(&judged(&[("redis_version", version)], &[]), "redis-version"), expected, "{version}");
        }
        let valkey = judged(&[("redis_version", "7.2.4"), ("valkey_version", "9.1.2")], &[]);
        assert!(valkey.findings[0].found.starts_with("Valkey 9.1.2"));
    }

    #[test]
    fn a_server_that_hides_its_configuration_is_judged_by_what_it_tells() {
        let hidden = judged(&[("aof_enabled", "1"), ("maxmemory_policy", "noeviction"), ("role", "master")], &[]);
        assert_eq!(level(&hidden, "redis-persistence"), Level::Ok);
        assert_eq!(level(&hidden, "redis-eviction"), Level::Ok);
        assert_eq!(level(&judged(&[], &[]), "redis-eviction"), Level::Warn);
        assert_eq!(
            level(&judged(&[("aof_enabled", "1"), ("aof_last_write_status", "err")], &[]), "redis-persistence"),
            Level::Fail
        );
    }

    #[test]
    fn a_full_server_fails() {
        for (used, expected) in [("80", Level::Ok), ("95", Level::Warn), ("100", Level::Fail)] {
            let report = judged(&[("used_memory", used), ("maxmemory", "100")], &[]);
            assert_eq!(level(&report, "redis-memory"), expected, "{used}");
        }
    }
}
