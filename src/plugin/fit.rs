//! Whether a component's imports and exports fit this service, by name and version, before types are compared: what it asks
//! for too much is said in words that a person can act on.

use wasmtime::{
    Engine,
    component::types::{Component, ComponentItem},
};

use super::{
    bindings::{HOST, HOST_FUNCTIONS, PROCESSOR, VERSION},
    engine::EngineError,
};

/// The packages of WASI 0.2 that are offered, empty.
const WASI: [&str; 6] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];
/// Characters of a component's names that are shown.
const NAME_CHARS_MAX: usize = 200;

/// Checks names and versions. A component of a later 1.x is taken if it uses no function that is missing here.
pub(super) fn check(ty: &Component, engine: &Engine) -> Result<(), EngineError> {
    for (name, import) in ty.imports(engine) {
        if interface(name) == HOST {
            is_spoken(name, HOST)?;
            let ComponentItem::ComponentInstance(wanted) = import.ty else { continue };
            let mut functions =
                wanted.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
            if let Some((function, _)) = functions.find(|(function, _)| !HOST_FUNCTIONS.contains(function)) {
                return Err(EngineError::HostFunction { function: shown(function), interface: shown(name) });
            }
        } else if !(WASI.iter().any(|package| name.starts_with(package)) && name.contains("@0.2.")) {
            return Err(EngineError::Import(shown(name)));
        }
    }
    match ty.exports(engine).find(|(name, _)| interface(name) == PROCESSOR) {
        Some((name, _)) => is_spoken(name, PROCESSOR),
        None => Err(EngineError::Export),
    }
}

/// Of one major version all minor ones understand each other.
fn is_spoken(name: &str, interface: &'static str) -> Result<(), EngineError> {
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    if name.split_once('@').and_then(|(_, version)| major(version)) == major(VERSION) {
        Ok(())
    } else {
        Err(EngineError::Version { found: shown(name), interface })
    }
}

fn interface(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

fn shown(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}
