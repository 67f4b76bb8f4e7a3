//! The names of what is counted of plugins, and what they mean. Each series of a plugin exists twice: `task_logger_plugin_*`
//! for what decides, `task_logger_shadow_*` for what only watches, so that a sum over the first never has the second in it.
//!
//! Labels are closed sets: `plugin` is a manifest name, `name` a code of a manifest (of both, the first so many of a
//! process), the others are the host's own words. Versions come and go and are no label: a plugin's counters go on over its
//! versions, [`PLUGIN_LIVE_GENERATION`] says since which generation the present one decides, `GET /plugins` has the figures
//! of each version.

use ::metrics::{describe_counter, describe_gauge, describe_histogram};

use super::Unit;

/// The series of one plugin.
pub struct PluginSeries {
    /// Calls of `process`, failed ones too.
    pub calls: &'static str,
    /// Events by `verdict`; `failed`: its policy applied.
    pub events: &'static str,
    /// Failed calls by `class`: `trap`, `timeout`, `memory`, ...
    pub failures: &'static str,
    /// Time of a call, with making its instance.
    pub seconds: &'static str,
    /// What it counts itself, by `name`, a code of its manifest: redactions by rule.
    pub count: &'static str,
    /// Bytes of event data that went in.
    pub bytes_in: &'static str,
    /// Bytes of new data and extra files that came out.
    pub bytes_out: &'static str,
    /// Most memory that an instance of the present version had.
    pub memory: &'static str,
    /// Instances alive.
    pub instances: &'static str,
    /// Events that it holds.
    pub held: &'static str,
    /// Kept instances given up, by `reason`: `calls`, `memory`.
    pub recycled: &'static str,
    /// Times that it was given less time, or none, because it took too much.
    pub suspended: &'static str,
}

/// Of plugins that decide.
pub const ENFORCING: PluginSeries = PluginSeries {
    calls: "task_logger_plugin_calls_total",
    events: "task_logger_plugin_events_total",
    failures: "task_logger_plugin_failures_total",
    seconds: "task_logger_plugin_seconds",
    count: "task_logger_plugin_count_total",
    bytes_in: "task_logger_plugin_bytes_in_total",
    bytes_out: "task_logger_plugin_bytes_out_total",
    memory: "task_logger_plugin_memory_bytes",
    instances: "task_logger_plugin_instances",
    held: "task_logger_plugin_held_events",
    recycled: "task_logger_plugin_recycled_total",
    suspended: "task_logger_plugin_throttled_total",
};

/// Of plugins that only watch.
pub const SHADOW: PluginSeries = PluginSeries {
    calls: "task_logger_shadow_calls_total",
    events: "task_logger_shadow_events_total",
    failures: "task_logger_shadow_failures_total",
    seconds: "task_logger_shadow_seconds",
    count: "task_logger_shadow_count_total",
    bytes_in: "task_logger_shadow_bytes_in_total",
    bytes_out: "task_logger_shadow_bytes_out_total",
    memory: "task_logger_shadow_memory_bytes",
    instances: "task_logger_shadow_instances",
    held: "task_logger_shadow_held_events",
    recycled: "task_logger_shadow_recycled_total",
    suspended: "task_logger_shadow_suspended_total",
};

/// Events on which a shadow came to something else, by `enforced` and `shadow`, the two verdicts.
pub const SHADOW_DIFFERENCES: &str = "task_logger_shadow_differences_total";
/// Events that a shadow was not asked about, because it had taken too much time.
pub const SHADOW_SKIPPED: &str = "task_logger_shadow_skipped_total";
/// Plugin files that were refused or taken back.
pub const PLUGIN_REFUSED: &str = "task_logger_plugin_refused_candidates_total";
/// Plugin files that are refused now.
pub const PLUGIN_REFUSED_FILES: &str = "task_logger_plugin_refused_files";
/// 1 for a plugin in the chain that is a redactor, 0 for any other one and for one that left, by `plugin`.
pub const PLUGIN_REDACTS: &str = "task_logger_plugin_redacts";
/// The generation that runs; a swap makes the next one.
pub const PLUGIN_GENERATION: &str = "task_logger_plugin_generation";
/// Generations in memory: the one that runs, and older ones that a lane has not given back yet.
pub const PLUGIN_GENERATIONS_ALIVE: &str = "task_logger_plugin_generations_alive";
/// Since which generation a plugin's present version is in the chain, by `plugin`; 0: it is not.
pub const PLUGIN_LIVE_GENERATION: &str = "task_logger_plugin_live_generation";
/// Redactors in the chain.
pub const PLUGIN_REDACTORS: &str = "task_logger_plugin_redactors";
/// How long a swap kept a lane from its events: ending old instances, making new ones.
pub const PLUGIN_SWAP_SECONDS: &str = "task_logger_plugin_swap_seconds";

pub(super) fn describe() {
    for (series, whose) in [(&ENFORCING, "a plugin"), (&SHADOW, "a shadow")] {
        let say = |what: &str| format!("{what} {whose}");
        describe_counter!(series.calls, Unit::Count, say("Calls, failed ones too, of"));
        describe_counter!(series.events, Unit::Count, say("Events by verdict (failed: its policy applied) of"));
        describe_counter!(series.failures, Unit::Count, say("Failed calls by class (asked again in halves) of"));
        describe_histogram!(series.seconds, Unit::Seconds, say("Time of a call, with making its instance, of"));
        describe_counter!(series.count, Unit::Count, say("Own counts, by a code of the manifest, of"));
        describe_counter!(series.bytes_in, Unit::Bytes, say("Event data given to"));
        describe_counter!(series.bytes_out, Unit::Bytes, say("New data and extra files from"));
        describe_gauge!(series.memory, Unit::Bytes, say("Most memory of an instance of the present version of"));
        describe_gauge!(series.instances, Unit::Count, say("Instances alive of"));
        describe_gauge!(series.held, Unit::Count, say("Events held now by"));
        describe_counter!(series.recycled, Unit::Count, say("Kept instances given up, by reason, of"));
    }
    describe_counter!(ENFORCING.suspended, Unit::Count, "Times that a plugin was given less time: it kept timing out");
    describe_counter!(SHADOW.suspended, Unit::Count, "Times that a shadow was not asked for a while: it took too long");
    describe_counter!(SHADOW_DIFFERENCES, Unit::Count, "Events on which a shadow came to something else, by verdicts");
    describe_counter!(SHADOW_SKIPPED, Unit::Count, "Events that a shadow was not asked about");
    describe_counter!(PLUGIN_REFUSED, Unit::Count, "Plugin files that were refused or taken back");
    describe_gauge!(PLUGIN_REFUSED_FILES, Unit::Count, "Plugin files that are refused now; GET /plugins says why");
    describe_gauge!(PLUGIN_REDACTS, Unit::Count, "1 for a redactor in the chain, by plugin");
    describe_gauge!(PLUGIN_GENERATION, Unit::Count, "Generation of the chain in this process");
    describe_gauge!(PLUGIN_GENERATIONS_ALIVE, Unit::Count, "Generations in memory, old ones in use with them");
    describe_gauge!(PLUGIN_LIVE_GENERATION, Unit::Count, "Generation since which a plugin's version decides, 0: none");
    describe_gauge!(PLUGIN_REDACTORS, Unit::Count, "Redactors in the chain");
    describe_histogram!(PLUGIN_SWAP_SECONDS, Unit::Seconds, "How long a swap kept a lane from its events");
}
