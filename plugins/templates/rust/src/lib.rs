//! `my-plugin`: replaces the words of its configuration in all texts of an event.

use serde::Deserialize;
use task_logger_plugin::{Call, Event, Failure, Host, Manifest, Plugin, Verdict, export};

/// `[config]` in `my-plugin.toml`. Another key is refused by name, so is a wrong type.
#[derive(Deserialize)]
pub struct Config {
    #[serde(default)]
    words: Vec<String>,
}

pub struct Redactor {
    words: Vec<String>,
}

export!(Redactor);

impl Plugin for Redactor {
    type Config = Config;

    fn new(config: Config, _host: &Host) -> Result<Self, Failure> {
        if config.words.iter().any(String::is_empty) {
            return Err(Failure::new(
                "config: words: an empty word would be found everywhere",
            ));
        }
        Ok(Self {
            words: config.words,
        })
    }

    fn manifest(&self) -> Manifest {
        Manifest::redactor("my-plugin", env!("CARGO_PKG_VERSION")).codes(["word"])
    }

    fn event(&self, event: &Event<'_>, call: &Call<'_>) -> Result<Verdict, Failure> {
        let mut found = 0;
        let verdict = event.rewrite(|text| {
            self.words.iter().fold(text.to_owned(), |text, word| {
                found += text.matches(word).count();
                text.replace(word, "[REDACTED]")
            })
        })?;
        if found > 0 {
            call.host.count("word", u32::try_from(found)?);
        }
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests;
