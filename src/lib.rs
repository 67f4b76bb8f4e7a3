//! task-logger: the data path in reading order.

pub mod config;
pub mod metrics;
pub mod status;

pub mod committer;
pub mod decode;
pub mod ending;
pub mod event;
pub mod journal;
pub mod json;
pub mod lane;
pub mod layout;
pub mod owner;
pub mod plugin;
pub mod position;
pub mod reading;
pub mod recover;
pub mod route;
pub mod slice;
pub mod source;
pub mod window;

pub mod http;
pub mod ingest;
pub mod reader;

pub mod service;
pub mod shutdown;
pub mod telemetry;

pub mod cli;
pub mod client;
pub mod demo;
pub mod publish;
