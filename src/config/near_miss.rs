//! Finds environment variables that are all but one of our names: a setting that is misspelt would otherwise be ignored
//! without a word.

use super::table::SETTINGS;

/// Well-known variables of others that look like a misspelling of ours.
const FOREIGN: &[&str] = &["CCACHE_DIR", "SCCACHE_DIR"];

/// Spelt otherwise by other programs, and too far off to be found by spelling.
const SIGNPOSTS: &[(&str, &str)] = &[("REDIS_URI", "REDIS_URL")];

/// The setting that a variable's name was probably meant to be; `None` for our own names and for those of others.
///
/// Names of one word (`HOST`, `PORT`, `LANES`, `FSYNC`) are left out: too many programs have variables like them.
pub(super) fn near_miss(name: &str) -> Option<String> {
    let ours: Vec<String> = SETTINGS
        .iter()
        .flat_map(|setting| {
            let file = setting.is_secret().then(|| setting.file_name());
            std::iter::once(setting.name.to_owned()).chain(file)
        })
        .collect();
    if ours.iter().any(|own| own == name) || FOREIGN.contains(&name) || !name.is_ascii() {
        return None;
    }
    if let Some((_, own)) = SIGNPOSTS.iter().find(|(other, _)| *other == name) {
        return Some((*own).to_owned());
    }
    let upper = name.to_ascii_uppercase();
    ours.into_iter().filter(|own| own.contains('_')).find(|own| {
        same_letters(&upper, own)
            || same_words(&upper, own)
            || (own.len() >= 9 && one_letter_more_or_less_or_swapped(&upper, own))
            || (own.len() >= 12 && one_letter_other(&upper, own))
    })
}

/// Same but for underscores, dashes and a plural's `S`: `LOG_DIR`, `LOGSDIR`, `plugin-dir`.
fn same_letters(a: &str, b: &str) -> bool {
    let squeeze = |name: &str| words(name).concat();
    // Compared without separators as well, since a word's end is unknown there.
    squeeze(a) == squeeze(b) || a.replace(['_', '-'], "") == b.replace(['_', '-'], "")
}

/// Same words in another order: `BATCH_SIZE_MAX`.
fn same_words(a: &str, b: &str) -> bool {
    let sorted = |name| {
        let mut words = words(name);
        words.sort_unstable();
        words
    };
    sorted(a) == sorted(b)
}

fn words(name: &str) -> Vec<&str> {
    name.split(['_', '-']).map(|word| word.strip_suffix('S').unwrap_or(word)).collect()
}

fn one_letter_more_or_less_or_swapped(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    let same = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    match long.len() - short.len() {
        1 => short[same..] == long[same + 1..],
        0 => {
            let (x, y) = (&short[same..], &long[same..]);
            x.len() >= 2 && x[0] == y[1] && x[1] == y[0] && x[2..] == y[2..]
        }
        _ => false,
    }
}

fn one_letter_other(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).filter(|(x, y)| x != y).count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_found() {
        for (name, own) in [
            ("LOG_DIR", "LOGS_DIR"),
            ("LOGDIR", "LOGS_DIR"),
            ("logs_dir", "LOGS_DIR"),
            ("REDIS_STREM", "REDIS_STREAM"),
            ("REDIS_STREAMS", "REDIS_STREAM"),
            ("REDIS_URI", "REDIS_URL"),
            ("REDIS_CONSUMER_GRUOP", "REDIS_CONSUMER_GROUP"),
            ("PLUGIN_DIR", "PLUGINS_DIR"),
            ("PLUGINS_DIRS", "PLUGINS_DIR"),
            ("REQUIRED_PLUGIN", "REQUIRED_PLUGINS"),
            ("BATCH_SIZE_MAX", "MAX_BATCH_SIZE"),
            ("MAX_EVENTS", "MAX_EVENT"),
            ("API_TOKENS", "API_TOKEN"),
            ("API_TOKEN_FIL", "API_TOKEN_FILE"),
            ("LOGLEVEL", "LOG_LEVEL"),
            ("SHUTDOWN_GRADE", "SHUTDOWN_GRACE"),
        ] {
            assert_eq!(near_miss(name).as_deref(), Some(own), "{name}");
        }
    }

    #[test]
    fn names_of_others_are_left_alone() {
        for name in [
            "HOSTNAME",
            "HOSTTYPE",
            "HOSTS",
            "PORTS",
            "REPORT",
            "REDIS_HOST",
            "REDIS_PORT",
            "REDIS_SERVICE_HOST",
            "REDIS_SERVICE_PORT",
            "REDIS_PORT_6379_TCP",
            "REDIS_PASSWORD",
            "REDIS_DB",
            "LOGNAME",
            "LOG_FILE",
            "LOGS",
            "LANG",
            "LANGUAGE",
            "PATH",
            "PWD",
            "HOME",
            "USER",
            "SHELL",
            "TERM",
            "CCACHE_DIR",
            "SCCACHE_DIR",
            "XDG_CACHE_HOME",
            "STATE_DIRECTORY",
            "CACHE_DIRECTORY",
            "LOGS_DIRECTORY",
            "APP_TOKEN",
            "GITHUB_TOKEN",
            "STATS_DIR",
            "STAGE_DIR",
            "TEMP_DIR",
            "TMPDIR",
            "TASK_LOGGER_PORT",
            "TASK_LOGGER_SERVICE_HOST",
            "RUST_LOG",
            "MAX_JOBS",
            "SYNC",
            "RSYNC_RSH",
            "LANE",
            "port",
            "host",
            "",
            "é",
        ] {
            assert_eq!(near_miss(name), None, "{name}");
        }
        for setting in SETTINGS {
            assert_eq!(near_miss(setting.name), None);
        }
    }
}
