//! What a process did to the files below one folder, from `strace`'s record of its system calls: in the order in which they
//! ended, with the line at which each began.

use std::{
    collections::HashMap,
    fs,
    io::BufRead,
    path::{Component, Path, PathBuf},
};

/// The calls that the record must have. One that changes files and is missing here would be a hole in the model, so the kinds
/// that the service does not use today are recorded, too, and refused by [`read`].
pub(super) const CALLS: &str = "open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,\
    fallocate,copy_file_range,sendfile,splice,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,\
    symlink,symlinkat,fsync,fdatasync,sync,syncfs,sync_file_range,sendto,sendmsg";

/// Bytes of a string that the record keeps. What is longer must be zeros.
pub(super) const STRING_MAX: usize = 4 << 20;

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    /// Line at which it began.
    pub(super) begun: usize,
    /// Line at which it had ended.
    pub(super) ended: usize,
    pub(super) act: Act,
}

/// What it did. Paths are absolute.
#[derive(Debug)]
pub(super) enum Act {
    /// A file was opened to be made if missing, and emptied if `truncate`.
    Open {
        path: PathBuf,
        create: bool,
        truncate: bool,
    },
    Write {
        path: PathBuf,
        offset: u64,
        data: Data,
    },
    Truncate {
        path: PathBuf,
        length: u64,
    },
    Mkdir(PathBuf),
    /// A file's name or an empty directory goes.
    Remove(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    /// A file or a directory is synced.
    Sync(PathBuf),
    /// The whole file system is.
    SyncAll,
    /// Bytes went to a client.
    Answer(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(super) enum Data {
    Bytes(Vec<u8>),
    Zeros(u64),
}

/// Reads a record made with `-f -y -xx` of a process that was killed. Panics on a call that the model does not know. What
/// became of calls that did not return any more is seen from the files, so nothing may have touched them since.
pub(super) fn read(record: impl BufRead, root: &Path) -> Vec<Call> {
    let mut begun: HashMap<u64, (usize, String)> = HashMap::new();
    let mut offsets = HashMap::new();
    let (mut calls, mut last, mut cut) = (Vec::new(), 0, Vec::new());
    for (number, line) in record.lines().enumerate() {
        let line = line.unwrap();
        last = number;
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let (pid, rest) = (pid.parse().unwrap(), rest.trim_start());
        let (started, whole) = if let Some(first) = rest.strip_suffix("<unfinished ...>") {
            begun.insert(pid, (number, first.to_owned()));
            continue;
        } else if let Some((_, tail)) = rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            let (started, first) = begun.remove(&pid).unwrap();
            (started, first + tail)
        } else {
            (number, rest.to_owned())
        };
        match whole.rsplit_once(" = ?") {
            Some((call, _)) => cut.push((started, call.to_owned())),
            None => {
                calls.extend(act(&whole, root, &mut offsets).map(|act| Call { begun: started, ended: number, act }))
            }
        }
    }
    cut.extend(begun.into_values());
    cut.sort();
    for (started, call) in cut {
        let call = call.replace("<unfinished ...>", "");
        let act = act(&format!("{} = ?", call.trim_end()), root, &mut offsets).and_then(as_done);
        calls.extend(act.map(|act| Call { begun: started, ended: last, act }));
    }
    calls
}

/// What is to be seen of a call whose process was killed in it.
fn as_done(act: Act) -> Option<Act> {
    let there = |path: &Path| fs::symlink_metadata(path).is_ok();
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    match act {
        Act::Open { path, create, truncate } if there(&path) => {
            Some(Act::Open { truncate: truncate && length(&path) == 0, path, create })
        }
        Act::Write { path, offset, data } => {
            let now = fs::read(&path).unwrap_or_default();
            let now = now.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            // A write that is killed may have done a part of its work.
            let data = match data {
                Data::Bytes(bytes) => {
                    let same = bytes.iter().zip(now).take_while(|(byte, now)| byte == now).count();
                    Data::Bytes(bytes[..same].to_vec())
                }
                Data::Zeros(length) => Data::Zeros(length.min(now.len() as u64)),
            };
            Some(Act::Write { path, offset, data })
        }
        Act::Truncate { path, length: to } if length(&path) == to => Some(Act::Truncate { path, length: to }),
        Act::Mkdir(path) if there(&path) => Some(Act::Mkdir(path)),
        Act::Remove(path) if !there(&path) => Some(Act::Remove(path)),
        Act::Rename { from, to } if !there(&from) => Some(Act::Rename { from, to }),
        Act::Link { from, to } if there(&to) => Some(Act::Link { from, to }),
        // A sync that did not return kept nothing; an answer that was not sent whole promised nothing.
        _ => None,
    }
}

/// One whole line; `None` when it failed or touches nothing below the root.
fn act(line: &str, root: &Path, offsets: &mut HashMap<String, u64>) -> Option<Act> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if result.starts_with('-') {
        return None;
    }
    let is_cut = result == "?";
    let arguments = arguments.trim_end().strip_suffix(')').unwrap_or(arguments);
    let parts = split(arguments);
    let below = |path: PathBuf| path.starts_with(root).then_some(path);
    let of = |at: usize| parts.get(at).and_then(|part| described(part));
    let number = |at: usize| parts[at].trim().parse::<u64>().unwrap();
    let data = |at: usize, length: u64| {
        let (bytes, cut) = string(&parts[at]);
        match cut || bytes.iter().all(|byte| *byte == 0) {
            true => {
                assert!(bytes.iter().all(|byte| *byte == 0), "more than {STRING_MAX} bytes were written at once");
                Data::Zeros(length)
            }
            false => Data::Bytes(bytes[..usize::try_from(length).unwrap()].to_vec()),
        }
    };
    let done = |at: usize| match is_cut {
        true => length_of(&parts, at),
        false => result.split_whitespace().next().unwrap().parse::<u64>().unwrap(),
    };
    Some(match name {
        "open" | "openat" | "openat2" | "creat" => {
            let path = match is_cut {
                true if name == "openat" => below(path(of(0), &parts[1]))?,
                true => return None,
                false => below(described(result)?)?,
            };
            offsets.insert(fd(result).to_owned(), 0);
            assert!(
                !arguments.contains("O_APPEND") && !arguments.contains("O_TMPFILE"),
                "{name} of {}",
                path.display()
            );
            Act::Open { path, create: arguments.contains("O_CREAT"), truncate: arguments.contains("O_TRUNC") }
        }
        "write" if parts[0].contains('<') => {
            let Some(path) = of(0).and_then(below) else { return answer(&parts) };
            let at = offsets.entry(fd(&parts[0]).to_owned()).or_default();
            let offset = *at;
            *at += done(2);
            Act::Write { path, offset, data: data(1, done(2)) }
        }
        "writev" | "sendto" | "sendmsg" => {
            assert!(of(0).and_then(below).is_none(), "{name} to a file");
            return answer(&parts);
        }
        "pwrite64" => Act::Write { path: below(of(0)?)?, offset: number(3), data: data(1, done(2)) },
        "ftruncate" => Act::Truncate { path: below(of(0)?)?, length: number(1) },
        "mkdir" => Act::Mkdir(below(path(None, &parts[0]))?),
        "mkdirat" => Act::Mkdir(below(path(of(0), &parts[1]))?),
        "unlink" | "rmdir" => Act::Remove(below(path(None, &parts[0]))?),
        "unlinkat" => Act::Remove(below(path(of(0), &parts[1]))?),
        "rename" => Act::Rename { from: below(path(None, &parts[0]))?, to: path(None, &parts[1]) },
        "renameat" | "renameat2" => Act::Rename { from: below(path(of(0), &parts[1]))?, to: path(of(2), &parts[3]) },
        "link" => Act::Link { from: below(path(None, &parts[0]))?, to: path(None, &parts[1]) },
        "linkat" => Act::Link { from: below(path(of(0), &parts[1]))?, to: path(of(2), &parts[3]) },
        "fsync" | "fdatasync" => Act::Sync(below(of(0)?)?),
        "syncfs" | "sync" => Act::SyncAll,
        _ => {
            let touched = (0..parts.len()).filter_map(of).any(|path| path.starts_with(root));
            assert!(!touched, "the model does not know {name}");
            return None;
        }
    })
}

/// How many bytes were to be written.
fn length_of(parts: &[String], at: usize) -> u64 {
    parts.get(at).and_then(|part| part.trim().parse().ok()).unwrap_or_default()
}

/// What was sent to a client, all its parts joined.
fn answer(parts: &[String]) -> Option<Act> {
    let socket = described(&parts[0])?.to_string_lossy().starts_with("socket:");
    let bytes: Vec<u8> = parts.join(",").split('"').skip(1).step_by(2).flat_map(unescaped).collect();
    socket.then_some(Act::Answer(bytes))
}

/// Arguments at the commas outside of strings, brackets and paths.
fn split(arguments: &str) -> Vec<String> {
    let (mut parts, mut depth, mut quoted) = (vec![String::new()], 0, false);
    for c in arguments.chars() {
        match c {
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    parts
}

fn fd(text: &str) -> &str {
    text.trim().split('<').next().unwrap_or_default()
}

/// The path that stands behind a descriptor: `9<…>`, `AT_FDCWD<…>`.
fn described(text: &str) -> Option<PathBuf> {
    let (_, rest) = text.split_once('<')?;
    let path = rest.rsplit_once('>')?.0;
    Some(PathBuf::from(String::from_utf8(unescaped(path)).unwrap()))
}

/// A path argument, below its directory if it is relative.
fn path(dir: Option<PathBuf>, part: &str) -> PathBuf {
    let name = String::from_utf8(string(part).0).unwrap();
    let joined = dir.unwrap_or_default().join(name);
    joined.components().filter(|part| *part != Component::CurDir).collect()
}

/// A string argument, and whether the record cut it.
fn string(part: &str) -> (Vec<u8>, bool) {
    let part = part.trim();
    let inner = part.split('"').nth(1).unwrap_or_default();
    (unescaped(inner), part.ends_with("..."))
}

fn unescaped(text: &str) -> Vec<u8> {
    if !text.starts_with("\\x") {
        return text.as_bytes().to_vec();
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks_exact(4).map(|hex| digit(hex[2]) << 4 | digit(hex[3])).collect()
}
