//! Plugins for task-logger in Rust: implement [`Plugin`], name the type in [`export!`], build for `wasm32-wasip2`.
//!
//! ```
//! use task_logger_plugin::{Call, Event, Failure, Host, Manifest, Plugin, Verdict};
//!
//! #[derive(serde::Deserialize)]
//! struct Words { words: Vec<String> }
//!
//! impl Plugin for Words {
//!     type Config = Self;
//!     fn new(config: Self, _: &Host) -> Result<Self, Failure> { Ok(config) }
//!     fn manifest(&self) -> Manifest { Manifest::redactor("words", "0.1.0").codes(["word"]) }
//!     fn event(&self, event: &Event<'_>, _: &Call<'_>) -> Result<Verdict, Failure> {
//!         event.rewrite(|text| self.words.iter().fold(text.to_owned(), |text, word| text.replace(word, "[REDACTED]")))
//!     }
//! }
//! task_logger_plugin::export!(Words);
//!
//! # fn main() -> Result<(), Failure> {
//! let mut host = task_logger_plugin::test::TestHost::<Words>::new(r#"{"words":["xyzzy"]}"#)?;
//! let verdicts = host.process(&[("task:output", r#"{"content":"say xyzzy"}"#)])?;
//! assert_eq!(verdicts, [Verdict::Replace(r#"{"content":"say [REDACTED]"}"#.into())]);
//! # Ok(()) }
//! ```
//!
//! [`plugin`] is what an author sees, [`json`] walks an event's strings, [`host`] is what a plugin may ask of the service, and
//! [`mod@test`] is the service for tests that run natively. `guest` and `arena` are the component's side of the boundary; the
//! generated bindings stay there.

pub mod config;
pub mod host;
pub mod json;
pub mod plugin;

#[cfg(any(target_family = "wasm", test))]
mod arena;
#[cfg(target_family = "wasm")]
mod guest;
#[cfg(not(target_family = "wasm"))]
pub mod test;

pub use host::{Host, Level};
pub use plugin::{Call, Event, Failure, Manifest, NoConfig, Plugin, Role, Verdict};

/// For [`export!`] only.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::guest::{init, post_init, post_process, process};
    pub use crate::plugin::Exported;
}

/// Makes a type that implements [`Plugin`] the component's plugin. Once per crate; natively it does nothing that can be
/// seen, so that tests need no WebAssembly.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        const _: () = {
            ::std::thread_local! {
                static PLUGIN: ::std::cell::OnceCell<$plugin> = const { ::std::cell::OnceCell::new() };
            }

            // Natively nothing else calls it.
            const _: fn(
                <$plugin as $crate::Plugin>::Config,
                &$crate::Host,
            ) -> ::std::result::Result<$plugin, $crate::Failure> = <$plugin as $crate::Plugin>::new;

            impl $crate::__private::Exported for $plugin {
                fn slot() -> &'static ::std::thread::LocalKey<::std::cell::OnceCell<Self>> {
                    &PLUGIN
                }
            }

            // The names are the frozen interface's; the arguments are handed on as they come.
            #[cfg(target_family = "wasm")]
            #[allow(unsafe_code, reason = "the component's exports")]
            mod exports {
                use super::*;

                #[unsafe(export_name = "task-logger:plugin/processor@1.0.0#init")]
                unsafe extern "C" fn init(config: *mut u8, length: usize) -> *mut u8 {
                    unsafe { $crate::__private::init::<$plugin>(config, length) }
                }

                #[unsafe(export_name = "cabi_post_task-logger:plugin/processor@1.0.0#init")]
                unsafe extern "C" fn post_init(answer: *mut u8) {
                    unsafe { $crate::__private::post_init::<$plugin>(answer) }
                }

                #[unsafe(export_name = "task-logger:plugin/processor@1.0.0#process")]
                unsafe extern "C" fn process(
                    is_task: i32,
                    task: *mut u8,
                    task_length: usize,
                    events: *mut u8,
                    count: usize,
                    flush: i32,
                ) -> *mut u8 {
                    unsafe { $crate::__private::process::<$plugin>(is_task, task, task_length, events, count, flush) }
                }

                #[unsafe(export_name = "cabi_post_task-logger:plugin/processor@1.0.0#process")]
                unsafe extern "C" fn post_process(answer: *mut u8) {
                    unsafe { $crate::__private::post_process(answer) }
                }
            }
        };
    };
}
