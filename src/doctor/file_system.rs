//! Which file system a folder is on, and what to know of it.

use super::Level;

/// What is known of a kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// For folders that must outlive the machine's power.
    pub(super) level: Level,
    pub(super) advice: &'static str,
}

const NETWORK: &str = "only one process may write there, which the lease sees to; mount it hard, with NFSv4 locks, without `nolock`; a sync is as good as the server's; reading replicas may see a size late";
const SHARE: &str = "locks, renames and syncs depend on the server and on mount options: prefer a local disk or NFSv4, else mount with `cache=none`";
const FUSE: &str = "syncs and renames are what the program behind it makes of them, and object stores make little: prefer a local disk";
const MEMORY: &str = "it is gone when the power is: use a disk";
const LAYER: &str = "this is a container's own layer and goes with the container: mount a volume";
const FOREIGN: &str =
    "it lacks Unix rights or tells capital letters not apart, so that tasks may share a folder: use ext4 or xfs";

/// `statfs`'s magic numbers.
const KINDS: [(u64, Kind); 27] = [
    (0xEF53, good("ext4")),
    (0x5846_5342, good("xfs")),
    (0x9123_683E, good("btrfs")),
    (0x2FC1_2FC1, good("zfs")),
    (0xF2F5_2010, good("f2fs")),
    (0xCA45_1A4E, good("bcachefs")),
    (0x5265_4973, good("reiserfs")),
    (0x3153_464A, good("jfs")),
    (0x6969, warn("NFS", NETWORK)),
    (0x517B, warn("SMB", SHARE)),
    (0xFF53_4D42, warn("CIFS", SHARE)),
    (0xFE53_4D42, warn("SMB2", SHARE)),
    (0x6573_5546, warn("FUSE", FUSE)),
    (0x0102_1997, warn("9p", FUSE)),
    (0x786F_4256, warn("vboxsf", FUSE)),
    (0x00C3_6400, warn("Ceph", NETWORK)),
    (0x0BD0_0BD0, warn("Lustre", NETWORK)),
    (0x0116_1970, warn("GFS2", NETWORK)),
    (0x5346_414F, warn("AFS", NETWORK)),
    (0x794C_7630, warn("overlay", LAYER)),
    (0x6175_6673, warn("aufs", LAYER)),
    (0x4D44, warn("FAT", FOREIGN)),
    (0x2011_BAB0, warn("exFAT", FOREIGN)),
    (0x7366_746E, warn("NTFS", FOREIGN)),
    (0x0102_1994, Kind { name: "tmpfs", level: Level::Fail, advice: MEMORY }),
    (0x8584_58F6, Kind { name: "ramfs", level: Level::Fail, advice: MEMORY }),
    (0x7371_7368, Kind { name: "squashfs", level: Level::Fail, advice: "nothing can be written there" }),
];

const fn good(name: &'static str) -> Kind {
    Kind { name, level: Level::Ok, advice: "" }
}

const fn warn(name: &'static str, advice: &'static str) -> Kind {
    Kind { name, level: Level::Warn, advice }
}

/// The kind behind a magic number of `statfs`.
pub(super) fn of(magic: u64) -> Option<Kind> {
    // Some systems extend the sign.
    let magic = magic & 0xFFFF_FFFF;
    KINDS.iter().find(|(known, _)| *known == magic).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        for (magic, name, level) in [
            (0xEF53, "ext4", Level::Ok),
            (0x6969, "NFS", Level::Warn),
            (0xFFFF_FFFF_FF53_4D42, "CIFS", Level::Warn),
            (0x0102_1994, "tmpfs", Level::Fail),
        ] {
            let kind = of(magic).unwrap();
            assert_eq!((kind.name, kind.level), (name, level));
            assert_eq!(kind.advice.is_empty(), level == Level::Ok);
        }
        assert_eq!(of(1), None);
        let mut all: Vec<_> = KINDS.iter().map(|(magic, _)| magic).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), KINDS.len());
    }
}
