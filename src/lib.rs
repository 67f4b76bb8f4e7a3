//! task-logger reads task events from a stream, passes them through WebAssembly plugins, writes a directory of logs per task,
//! and serves those over HTTP.
//!
//! ```text
//! source ─► reading ─► lane [ decode ─► plugin chain ─► layout ] ─► committer [ group ─► journal ─► publish ─► apply ]
//!              │ route                                                  │                    │          │
//!              └──────────── position (Tracker) ────────────────────────┘                 source    LOGS_DIR
//!                                                                                                       │
//!                                                                        client ◄── http ◄── reader ◄───┘
//! ```
//!
//! In reading order: [`event`] and [`json`] are the vocabulary, [`folder`]s are made to last; [`source`] brings entries, [`reading`] notes them in the
//! [`position`] and [`route`]s them; a [`lane`] [`decode`]s, runs the [`plugin`] chain and renders the [`layout`] into a
//! [slices](mod@slice); the [`committer`] makes slices durable in the [`journal`], publishes, applies, checkpoints. [`owner`] holds these
//! together for one ownership of the stream, [`recover`] brings the files up to the journal before it, [`ending`] says how it
//! ends, [`suspicion`] of which entry a process died, [`condemned`] what must not run any more,
//! [`retention`] which tasks are old enough to go. [`reader`] and [`http`] are the read side, with an [index](reader::Index) of all tasks in memory, [`compress`] packs what they send, [`service`] wires everything. [`client`] reads from a running service or a folder, [`save`] keeps what it brings, [`dlq`] handles dead letters on the stream itself; [`author`] is
//! an author's desk, which runs plugins and recordings on the same path without one; [`trust`] is whose signatures count, [`tokens`] who may ask what.
//! [`fault`] names the steps at which a test makes all this fail.
//!
//! What is not there:
//! * Nothing but the journal makes a [`journal::Durable`], and nothing else can be published.
//! * The write side and the read side meet only in the files: `http` and `reader` name neither `committer` nor `journal`.
//! * Only `committer::files` writes below `LOGS_DIR`; the read side creates nothing.
//! * No id from inside a payload becomes a path: paths are made of [`event::Id`]s and declared names, beneath a root handle.

pub mod event;
pub mod folder;
pub mod json;

pub mod position;
pub mod source;

pub mod reading;
pub mod route;
pub mod window;

pub mod decode;
pub mod lane;
pub mod plugin;

pub mod layout;
pub mod slice;

pub mod committer;
pub mod journal;

pub mod condemned;
pub mod ending;
pub mod owner;
pub mod recover;
pub mod retention;
pub mod suspicion;

pub mod fault;
#[cfg(test)]
mod fuzzing;

pub mod bell;
pub mod compress;
pub mod http;
pub mod ingest;
pub mod reader;

pub mod config;
pub mod metrics;
pub mod service;
pub mod shutdown;
pub mod status;
pub mod telemetry;
pub mod tokens;
pub mod trust;

pub mod author;
pub mod cli;
pub mod client;
pub mod demo;
pub mod dlq;
pub mod doctor;
pub mod publish;
pub mod save;
pub mod terminal;
pub mod verify;
