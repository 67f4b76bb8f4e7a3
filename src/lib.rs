//! task-logger: the data path in reading order.

pub mod config;
pub mod metrics;
pub mod status;

pub mod event;
pub mod journal;
pub mod layout;
pub mod plugin;
pub mod position;
pub mod source;

pub mod ingest;
pub mod reader;

pub mod http;
pub mod service;
pub mod shutdown;
pub mod telemetry;

pub mod cli;
pub mod client;
pub mod demo;
pub mod publish;
