//! task-logger: the data path in reading order.

pub mod config;
pub mod metrics;
pub mod status;

pub mod event;
pub mod json;
pub mod position;
pub mod source;
pub mod route;
pub mod window;
pub mod decode;
pub mod plugin;
pub mod lane;
pub mod layout;
pub mod slice;
pub mod journal;
pub mod committer;
pub mod ending;
pub mod recover;
pub mod owner;
pub mod reading;

pub mod reader;
pub mod ingest;
pub mod http;

pub mod service;
pub mod shutdown;
pub mod telemetry;

pub mod cli;
pub mod client;
pub mod demo;
pub mod publish;
