//! task-logger: the data path in reading order.

pub mod config;
pub mod metrics;
pub mod status;

pub mod decode;
pub mod event;
pub mod journal;
pub mod json;
pub mod layout;
pub mod plugin;
pub mod position;
pub mod route;
pub mod source;

pub mod client;
pub mod http;
pub mod ingest;
pub mod reader;
