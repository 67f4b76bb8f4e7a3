//! `plugin install`: checks a plugin as the service does, puts its files into the service's folder so that no wrong pair is
//! ever live, and waits until the service says that it runs, or why not.
//!
//! The files go in by renames: signatures, then the sidecar, then the component. The sidecar gets the component's `sha256` if
//! it says none, so that whatever stands there between two renames is refused by the service, which runs what ran before. A
//! signed pair goes in as it is. When the service refuses the new pair, what was there before comes back (component first,
//! for the same reason); when nobody answers, or not in time, the files stay.
//!
//! Exit status: 0 live; 65 refused, by the check or by the service; 69 no service answers: it takes the plugin when it starts;
//! 75 not live within the time; 76 and 77 as every command that asks the service; 1 the files cannot be read or written.

use std::{
    env,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

mod folder;

use folder::{Folder, FolderError, Installed};

use super::{AuthorError, paint::Ink, paint::Painter, settings};
use crate::{
    client::{self, ClientError, Target},
    config::Config,
    plugin::workbench::{Pair, Workbench},
};

/// Refused.
const REFUSED: u8 = 65;
/// Not live in time.
const LATE: u8 = 75;
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long a service that does not answer is asked again: it may be starting.
const UNREACHABLE_MAX: Duration = Duration::from_secs(2);

/// Why a plugin was not installed. Then the folder is as it was.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The folder or a file in it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The service's folders are those of another machine, and no other was named.
    #[error("the service's folders ({0}) are not on this machine: name one with --to, or copy both files to it")]
    Elsewhere(String),
    /// Nobody says which folder, and the one of a service that would be started here is not there.
    #[error(
        "no service answers at {base}, so its folder is not known: start it (`make demo`), name its address with --url, \
         or a folder with --to or PLUGINS_DIR; nothing was written"
    )]
    NoFolder {
        /// The address.
        base: String,
    },
    /// The service does not answer as it should.
    #[error(transparent)]
    Service(#[from] ClientError),
}

/// What the service says of the pair.
enum Said {
    Live,
    /// It runs beside the chain, as its sidecar says.
    Shadow,
    Refused(String),
    /// Nothing of it yet.
    Nothing,
    /// It looks at the file in another folder.
    ElsewhereIs(String),
}

/// Installs.
pub(super) fn install(
    config: &Config,
    file: &Path,
    to: Option<&Path>,
    wait: Duration,
    out: &mut dyn Write,
) -> Result<ExitCode, AuthorError> {
    let target = Target { base: config.service_url(), token: config.api_token.clone() };
    let report = match client::plugin_report(&target) {
        Ok(report) => Some(report),
        Err(ClientError::Unreachable { .. }) => None,
        Err(error) => return Err(InstallError::from(error).into()),
    };
    let dir = match to {
        Some(dir) => dir.to_owned(),
        None => match known_folder(config, report.as_ref()) {
            Err(InstallError::NoFolder { base }) => {
                let error = InstallError::NoFolder { base };
                Painter::new(out).line(0, &[(Ink::Red, &error.to_string())])?;
                return Ok(ClientError::UNREACHABLE.into());
            }
            known => known?,
        },
    };
    let dir = std::path::absolute(dir)?;
    let mut painter = Painter::new(out);

    // What would go live: with the sidecar as it will stand in the folder.
    let staged = Folder::open(&dir).and_then(|folder| folder.stage(file)).map_err(InstallError::from)?;
    let bench = Workbench::open(&settings(config))?;
    let pair = Pair::read(&staged.component(), staged.sidecar().as_deref())?.named(&staged.file);
    let plugin = match bench.prove(&pair, false) {
        Ok(plugin) => plugin,
        Err(refusal) => {
            let refusal = AuthorError::from(refusal);
            painter.line(0, &[(Ink::Red, &refusal.to_string())])?;
            painter.line(0, &[(Ink::Plain, "nothing was written")])?;
            return Ok(ExitCode::from(REFUSED));
        }
    };
    // A shadow is meant to run beside its namesake.
    let asked = report.as_ref().filter(|_| !plugin.is_shadow());
    if let Some(other) = asked.and_then(|report| namesake(report, &staged.file, plugin.name())) {
        let text = format!(
            "{} is live from {other} already, and of two files with one manifest name the later is refused: \
             rename this one to {other}, or remove that one first\nnothing was written",
            plugin.name()
        );
        painter.line(0, &[(Ink::Red, &text)])?;
        return Ok(ExitCode::from(REFUSED));
    }
    let (name, version, digest) = (plugin.name().to_owned(), plugin.version().to_owned(), plugin.pair().to_owned());
    let what = format!("{name} {version} ({}, {})", plugin.role(), short(plugin.sha256()));
    let replaced = report.as_ref().and_then(|report| replaced(report, &staged.file, plugin.sha256()));
    drop((plugin, bench));

    let installed = staged.publish().map_err(InstallError::from)?;
    painter.line(0, &[(Ink::Plain, &format!("checked {what}; wrote {}", installed.component().display()))])?;
    for note in replaced.iter().chain(installed.notes()) {
        painter.line(2, &[(Ink::Dim, note)])?;
    }
    until_live(&target, installed, &digest, wait, &mut painter)
}

/// The last folder of the running service if it is on this machine, else the last of `PLUGINS_DIR`.
fn known_folder(config: &Config, report: Option<&Value>) -> Result<PathBuf, InstallError> {
    let folders = report.and_then(|report| report["folders"].as_array()).map(Vec::as_slice).unwrap_or_default();
    let folders: Vec<&str> = folders.iter().filter_map(Value::as_str).collect();
    let own = config.plugins_dirs.last();
    match folders.last().map(PathBuf::from) {
        // A folder that is still to be made is known by the one around it.
        Some(last) if last.is_dir() || last.parent().is_some_and(Path::is_dir) => Ok(last),
        Some(_) if env::var_os("PLUGINS_DIR").is_none() => Err(InstallError::Elsewhere(folders.join(", "))),
        // Not one that would be made wherever somebody happens to stand.
        _ => match own.filter(|own| env::var_os("PLUGINS_DIR").is_some() || own.is_dir()) {
            Some(own) => Ok(own.clone()),
            None => Err(InstallError::NoFolder { base: config.service_url() }),
        },
    }
}

/// Another file from which a plugin of this name is live.
fn namesake<'r>(report: &'r Value, file: &str, name: &str) -> Option<&'r str> {
    let plugins = report["plugins"].as_array()?;
    let other = plugins
        .iter()
        .find(|plugin| plugin["name"] == name && plugin["file"] != file && !plugin["shadow"].is_object())?;
    other["file"].as_str()
}

/// What runs from this file now, if it is another component.
fn replaced(report: &Value, file: &str, sha256: &str) -> Option<String> {
    let plugin = report["plugins"].as_array()?.iter().find(|plugin| plugin["file"] == file)?;
    let (name, version) = (plugin["name"].as_str()?, plugin["version"].as_str()?);
    let old = plugin["sha256"].as_str().filter(|old| *old != sha256)?;
    Some(format!("replaces {name} {version} ({}), which runs until this one is live", short(old)))
}

fn until_live(
    target: &Target,
    installed: Installed,
    digest: &str,
    wait: Duration,
    painter: &mut Painter<'_>,
) -> Result<ExitCode, AuthorError> {
    let began = Instant::now();
    let mut last = Said::Nothing;
    loop {
        let over = began.elapsed() >= wait;
        match client::plugin_report(target) {
            Ok(report) => last = said(&report, &installed, digest),
            Err(ClientError::Unreachable { .. }) if !over && began.elapsed() < UNREACHABLE_MAX => {}
            Err(ClientError::Unreachable { base, .. }) => {
                let text =
                    format!("no service answers at {base}: it takes the plugin when it runs (`plugin ls` shows it)");
                painter.line(0, &[(Ink::Yellow, &text)])?;
                return Ok(ClientError::UNREACHABLE.into());
            }
            Err(error) => return Err(InstallError::from(error).into()),
        }
        match &last {
            Said::Live | Said::Shadow => {
                let how = if matches!(last, Said::Live) { "live" } else { "in shadow, beside the chain," };
                let text = format!("{how} after {} ms", began.elapsed().as_millis());
                painter.line(0, &[(Ink::Green, &text)])?;
                return Ok(ExitCode::SUCCESS);
            }
            Said::Refused(reason) => {
                painter.line(0, &[(Ink::Red, &format!("the service refuses it: {reason}"))])?;
                let back = installed.take_back().map_err(InstallError::from)?;
                painter.line(0, &[(Ink::Plain, back)])?;
                return Ok(ExitCode::from(REFUSED));
            }
            Said::Nothing if over => {
                let text = format!(
                    "not live within {} s; the files stay. If the service at {} does not look into {}, install with --to \
                     into a folder that it does (`plugin ls` shows them)",
                    wait.as_secs(),
                    target.base,
                    installed.dir().display()
                );
                painter.line(0, &[(Ink::Yellow, &text)])?;
                return Ok(ExitCode::from(LATE));
            }
            Said::ElsewhereIs(path) if over => {
                let text = format!("not live: the service takes {path} instead; of equal names the last folder's wins");
                painter.line(0, &[(Ink::Yellow, &text)])?;
                return Ok(ExitCode::from(LATE));
            }
            Said::Nothing | Said::ElsewhereIs(_) => thread::sleep(ASK_EVERY),
        }
    }
}

fn said(report: &Value, installed: &Installed, digest: &str) -> Said {
    let files = report["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(file) = files.iter().find(|file| file["file"] == installed.file()) else { return Said::Nothing };
    let refused = &file["refused"];
    if refused["pair"] == digest {
        return Said::Refused(refused["reason"].as_str().unwrap_or("it does not say why").to_owned());
    }
    match file["path"].as_str() {
        Some(path) if is_another(Path::new(path), &installed.component()) => Said::ElsewhereIs(path.to_owned()),
        _ if file["pair"] != digest => Said::Nothing,
        _ => match file["state"].as_str() {
            Some("live") => Said::Live,
            Some("shadow") => Said::Shadow,
            // It waits for the plugin of its name, which it may only run beside.
            Some("refused") => Said::Refused(refused["reason"].as_str().unwrap_or("it does not say why").to_owned()),
            _ => Said::Nothing,
        },
    }
}

/// Whether the service's path is another file of this machine. One that is not found here is the service's own name for a
/// folder that it shares with us.
fn is_another(path: &Path, own: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((file(path), file(own)), (Ok(theirs), Ok(ours)) if theirs != ours)
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
