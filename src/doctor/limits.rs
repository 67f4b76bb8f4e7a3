//! What the system allows the process.

use rustix::process::{Resource, getrlimit};

use super::Report;

/// Each live task has one or two files open; the service raises its soft limit to the hard one.
const OPEN_FILES: (u64, u64) = (1024, 8192);

pub(super) fn look(report: &mut Report) {
    open_files(report, getrlimit(Resource::Nofile).maximum);
}

fn open_files(report: &mut Report, hard: Option<u64>) {
    let advice = "raise it (systemd: LimitNOFILE=65536, Docker: --ulimit nofile=65536): half of it is for task files, the rest opens and closes them all the time";
    match hard {
        Some(hard) if hard < OPEN_FILES.0 => report.fail("open-files", format!("at most {hard}"), advice),
        Some(hard) if hard < OPEN_FILES.1 => report.warn("open-files", format!("at most {hard}"), advice),
        Some(hard) => report.ok("open-files", format!("at most {hard}")),
        None => report.ok("open-files", "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn low_limits_are_found() {
        let levels = [None, Some(65_536), Some(4096), Some(256)].map(|hard| {
            let mut report = Report::default();
            open_files(&mut report, hard);
            report.worst()
        });
        assert_eq!(levels, [Level::Ok, Level::Ok, Level::Warn, Level::Fail]);
    }
}
