//! A look at a stream that leaves no trace: what stands in it, how far it is published, its dead letters. Takes no lock and no
//! lease, makes no folder, and may be used beside the owner.

use super::SourceError;
use crate::{
    config::Config,
    event::{Entry, StreamId},
    source::{
        embedded::EmbeddedWalk,
        letter,
        redis::{RedisConfig, RedisStream},
    },
};

/// What of a stream can still be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Everything at or below it is committed; `None`: nothing was ever published, or the group is gone.
    pub published: Option<StreamId>,
    /// The oldest entry that is left.
    pub first: Option<StreamId>,
    /// Whether nothing was ever removed from it, as far as it tells.
    pub whole: bool,
    /// The newest entry that was ever removed by its id, where the stream knows it.
    pub deleted: StreamId,
    /// Whether dead letters were removed, as far as their stream tells.
    pub letters_removed: bool,
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The events.
    Events,
    /// The dead letters.
    Letters,
}

/// A dead letter as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The entry that it is a copy of.
    pub id: StreamId,
    /// The plugin that refused it or failed on it; empty without one.
    pub plugin: String,
    /// The original fields; `None` where it says that they are not kept.
    pub fields: Option<super::Fields>,
}

/// A stream to look at.
pub trait Walk: Send {
    /// What is there now.
    fn remains(&mut self) -> Result<Remains, SourceError>;

    /// Hands on every entry above `after` and up to `until`, in order. Returns how many were found damaged.
    fn each(
        &mut self,
        part: Part,
        after: StreamId,
        until: StreamId,
        each: &mut dyn FnMut(Entry),
    ) -> Result<u64, SourceError>;

    /// What names the stream's folder below `STATE_DIR`.
    fn state_name(&self) -> String;
}

/// The stream that the settings name.
pub fn open(config: &Config) -> Result<Box<dyn Walk>, SourceError> {
    Ok(match RedisConfig::of(config) {
        Some(redis) => Box::new(RedisStream::new(redis)?.walk()),
        None => Box::new(EmbeddedWalk::open(&config.stream_dir, &config.stream)?),
    })
}

/// A copy as the letter that it is; `None`: it is no dead letter of ours.
pub fn letter(copy: Entry) -> Option<Letter> {
    let id = letter::original(&copy)?;
    let field = |name: &[u8]| copy.fields.iter().find(|(key, _)| &key[..] == name).map(|(_, value)| value);
    let plugin = field(b"plugin").map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    Some(Letter { id, plugin, fields: letter::originals(&copy) })
}
